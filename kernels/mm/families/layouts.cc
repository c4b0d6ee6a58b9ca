// How each family stores weights (../../FORMAT.md section 6), and the table of families.
#include <string.h>

#include "base/check.h"
#include "mm/families/families.h"

namespace {

constexpr int kColumns = 32;

int round_up(int x, int step) { return (x + step - 1) / step * step; }

// A matrix of plain codes that goes on forever: beyond its edge are codes that mean zero.
struct Plain {
  int weight, n, k;
  const uint8_t* codes;

  int at(int row, int column) const {
    const int code = row < n && column < k ? codes[(size_t)row * k + column] : mm_zero_code(weight);
    CHECK(code < 1 << mm_stored_bits(weight));
    return code;
  }
};

size_t rows_bytes(int, int n, int k) { return (size_t)n * k * sizeof(uint16_t); }

// planes: [8 rows][32 columns] as `bits` vectors of 8 words, least significant plane first; bit c of word r is column c of row r.
void pack_planes(int weight, int n, int k, const uint8_t* codes, uint8_t* out) {
  const Plain plain = {weight, n, k, codes};
  const int rows = round_up(n, 8), blocks = round_up(k, kColumns) / kColumns, bits = mm_stored_bits(weight);
  memset(out, 0, mm_codes_bytes(weight, n, k));
  for (int row = 0; row < rows; ++row)
    for (int column = 0; column < blocks * kColumns; ++column) {
      uint8_t* block = out + ((size_t)(row / 8) * blocks + column / kColumns) * kColumns * bits;
      for (int bit = 0; bit < bits; ++bit)
        block[32 * bit + 4 * (row % 8) + column % kColumns / 8] |= (uint8_t)((plain.at(row, column) >> bit & 1) << column % 8);
    }
}

// table: [32 rows][8 columns] as `bits` vectors of 32 bytes, least significant plane first; byte r is row r, its low half the bits of
// columns 0..3, its high half those of columns 4..7.
constexpr int kTableRows = 32;

size_t table_bytes(int weight, int n, int k) { return mm_codes_bytes(weight, round_up(n, kTableRows), k); }

void pack_table(int weight, int n, int k, const uint8_t* codes, uint8_t* out) {
  const Plain plain = {weight, n, k, codes};
  const int rows = round_up(n, kTableRows), octets = round_up(k, kColumns) / 8, bits = mm_stored_bits(weight);
  memset(out, 0, table_bytes(weight, n, k));
  for (int row = 0; row < rows; ++row)
    for (int column = 0; column < octets * 8; ++column) {
      uint8_t* block = out + ((size_t)(row / kTableRows) * octets + column / 8) * kTableRows * bits;
      for (int bit = 0; bit < bits; ++bit)
        block[kTableRows * bit + row % kTableRows] |= (uint8_t)((plain.at(row, column) >> bit & 1) << column % 8);
    }
}

// agile: [16 rows][32 columns] as 8 vectors of 8 words of 4 columns, then 16 sums of 32 codes each. Word l holds rows l and l + 8:
// column c has its two codes 8 bits apart, from bit 16 (c / 2) + 4 (c % 2) up.
constexpr int kAgileRows = 16, kAgileBlock = 256 + kAgileRows * 2;

size_t agile_bytes(int, int n, int k) {
  return (size_t)(round_up(n, kAgileRows) / kAgileRows) * (size_t)(round_up(k, kColumns) / kColumns) * kAgileBlock;
}

void pack_agile(int weight, int n, int k, const uint8_t* codes, uint8_t* out) {
  CHECK(weight == 4);
  const Plain plain = {weight, n, k, codes};
  const int rows = round_up(n, kAgileRows), blocks = round_up(k, kColumns) / kColumns;
  memset(out, 0, agile_bytes(weight, n, k));
  for (int row = 0; row < rows; ++row)
    for (int b = 0; b < blocks; ++b) {
      uint8_t* block = out + ((size_t)(row / kAgileRows) * blocks + b) * kAgileBlock;
      const int upper = row % kAgileRows / 8;
      uint16_t sum = 0;
      for (int c = 0; c < kColumns; ++c) {
        const int code = plain.at(row, b * kColumns + c);
        sum = (uint16_t)(sum + code);
        block[c / 4 * 32 + row % 8 * 4 + c % 4 / 2 * 2 + upper] |= (uint8_t)(code << 4 * (c % 2));
      }
      memcpy(block + 256 + 2 * (row % kAgileRows), &sum, sizeof sum);
    }
}

}  // namespace

extern "C" {

const MmFamily mm_family_packed = {"packed", true, 8, mm_codes_bytes, mm_pack, false};
const MmFamily mm_family_rows = {"rows", true, 8, rows_bytes, nullptr, false};
const MmFamily mm_family_planes = {"planes", false, 8, mm_codes_bytes, pack_planes, false};
const MmFamily mm_family_table = {"table", false, kTableRows, table_bytes, pack_table, false};
const MmFamily mm_family_agile = {"agile", false, kAgileRows, agile_bytes, pack_agile, false};
const MmFamily mm_family_deep = {"deep", false, 8, mm_codes_bytes, mm_pack, false};
const MmFamily mm_family_codebook = {"codebook", false, 8, mm_codes_bytes, mm_pack, true};
const MmFamily mm_family_twolevel = {"twolevel", false, 8, mm_codes_bytes, mm_pack, true};
const MmFamily mm_family_trip = {"trip", false, 8, mm_codes_bytes, mm_pack, true};
const MmFamily mm_family_rowsplit = {"rowsplit", false, 8, mm_codes_bytes, mm_pack, true};
const MmFamily mm_family_sidecar = {"sidecar", false, 8, mm_codes_bytes, mm_pack, true};
const MmFamily mm_family_sparse = {"sparse", false, 8, mm_codes_bytes, mm_pack, true};

const MmFamily* const kMmFamilies[] = {
    &mm_family_packed,   &mm_family_rows,     &mm_family_planes, &mm_family_table,    &mm_family_agile,   &mm_family_deep,
    &mm_family_codebook, &mm_family_twolevel, &mm_family_trip,   &mm_family_rowsplit, &mm_family_sidecar, &mm_family_sparse,
    nullptr,
};
}
