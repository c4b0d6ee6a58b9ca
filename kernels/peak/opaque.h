// What the compiler must not see through. The file of the instruction set has defined REGISTER, the asm constraint of its vectors.
// Internal linkage: an inline function compiled for one instruction set must not become the copy of another.
#ifndef BENCH_PEAK_OPAQUE_H_
#define BENCH_PEAK_OPAQUE_H_

namespace {

// From here on the compiler knows nothing of the value: what is computed from it is computed anew.
template <typename T>
inline void obscure(T& value) {
  __asm__ volatile("" : "+" REGISTER(value));
}

// A use: what it takes to compute the value is not left out.
template <typename T>
inline void keep(const T& value) {
  __asm__ volatile("" : : REGISTER(value));
}

}  // namespace

#endif  // BENCH_PEAK_OPAQUE_H_
