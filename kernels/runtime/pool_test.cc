// Tests of pool.h. Prints what failed and "N passed, N failed".
#include "runtime/pool.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "runtime/affinity.h"
#include "runtime/core_speed.h"

namespace {

int passed = 0, failed = 0;

void check(bool ok, const char* claim) {
  ok ? ++passed : ++failed;
  if (!ok) printf("FAILED: %s\n", claim);
}

double process_seconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void test_share() {
  bool ok = true;
  for (int team = 1; team <= 9; ++team) {
    Pool pool;
    ok = ok && !pool.start(team, {});
    for (int count : {0, 1, 7, 8, 1000}) {
      int next = 0;
      for (int member = 0; member < team; ++member) {
        const Range range = pool.share(count, member);
        ok = ok && range.begin == next && range.end >= next && range.end - range.begin <= count / team + 1;
        next = range.end;
      }
      ok = ok && next == count;
    }
  }
  check(ok, "equal shares follow each other, cover everything and differ by one at most");
}

void test_unequal_shares() {
  Pool pool;
  check(!pool.start(3, {}), "three threads start");
  pool.set_speeds({8, 3, 1});
  const Range ranges[] = {pool.share(120, 0), pool.share(120, 1), pool.share(120, 2)};
  check(ranges[0].begin == 0 && ranges[0].end == 80 && ranges[1].end == 110 && ranges[2].begin == 110 && ranges[2].end == 120,
        "shares are in proportion to the speeds");
  check(pool.share(1, 0).end - pool.share(1, 0).begin + pool.share(1, 1).end - pool.share(1, 1).begin + pool.share(1, 2).end -
                pool.share(1, 2).begin == 1,
        "one thing is done once");
}

void test_speeds() {
  check(speeds({1000}) == std::vector<int>({1}) && speeds({1000, 1250, 1100}) == std::vector<int>({1, 1, 1}), "equal cores share equally");
  check(speeds({3100, 1000, 3000, 1040}) == std::vector<int>({3, 8, 3, 8}), "a core of a third of the speed gets a third");
  check(speeds({3900, 1000, 3000}) == speeds({3000, 1000, 3800}), "and so does one of its kind that was a little slower");
  check(speeds({1000, 1000000}) == std::vector<int>({8, 1}), "nobody gets nothing");
}

void test_product() {
  const int64_t ns = product_ns();
  check(ns > 0 && ns < 50000000, "the product that cores are compared by is short, emulated too");
}

void test_run(int threads) {
  Pool pool;
  const Error error = pool.start(threads, {});
  check(!error && pool.size() == threads, "a pool starts as many threads as it is asked for");
  std::vector<int> calls(static_cast<size_t>(threads)), wrong(static_cast<size_t>(threads));
  constexpr int kRuns = 2000;
  for (int run = 0; run < kRuns; ++run) {
    pool.run([&](int member) { wrong[static_cast<size_t>(member)] += calls[static_cast<size_t>(member)]++ != run; });
    if (run % 500 == 0) usleep(2000);  // long enough for the workers to fall asleep
  }
  bool ok = true;
  for (int member = 0; member < threads; ++member) ok = ok && calls[static_cast<size_t>(member)] == kRuns && wrong[static_cast<size_t>(member)] == 0;
  check(ok, "every member does every piece of work once, and what it wrote is seen in the next");
}

void test_idle() {
  Pool pool;
  check(!pool.start(3, {}), "three threads start");
  pool.run([](int) {});
  const double before = process_seconds();
  usleep(300000);
  check(process_seconds() - before < 0.03, "an idle pool sleeps: two spinning workers would use 0.6 s");
}

void test_cpus() {
  Pool pool;
  const std::vector<int> allowed = affinity(0);
  check(!pool.start(3, {}) && pool.cpus() == allowed, "a pool that is not pinned may run where its caller may");
  Pool pinned;
  check(!pinned.start(1, {allowed.back()}) && pinned.cpus() == std::vector<int>{allowed.back()}, "a pinned pool runs where it was put");
  check(pool.cpus() == allowed, "the members of the first pool stay where they were");
}

void test_pin() {
  Pool pool;
  const Error error = pool.start(1, {1023});
  check(error.code == ErrorCode::kUsage, "a CPU that is not there is a usage error");
}

}  // namespace

int main() {
  test_share();
  test_unequal_shares();
  test_speeds();
  test_product();
  for (const int threads : {1, 2, 5}) test_run(threads);
  test_idle();
  test_pin();
  test_cpus();
  printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
