// Scans in portable C++: 32 sums in an array, one pair of tables at a time.
#include <math.h>
#include <string.h>

#include "fastscan.hpp"

namespace whimbrel {
namespace {

constexpr std::size_t kRows = 32;
constexpr std::size_t kHalf = kRows / 2;

void sum_entries(const std::uint8_t* block, const ScanInput& input, std::uint32_t* sums) {
  for (std::size_t row = 0; row < kRows; ++row) sums[row] = 0;
  for (std::size_t pair = 0; pair < input.width; ++pair) {
    for (std::size_t table = 0; table < 2; ++table) {
      const std::uint8_t* const entries = input.entries + (2 * pair + table) * kTableEntries;
      const std::uint8_t* const indexes = block + pair * kRows + table * kHalf;
      for (std::size_t i = 0; i < kHalf; ++i) {
        sums[i] += entries[indexes[i] & 15];
        sums[kHalf + i] += entries[indexes[i] >> 4];
      }
    }
  }
}

void estimate_rows(const ScanInput& input, const std::uint32_t* sums, ScanState& state,
                   std::uint32_t mask) {
  float add[kRows], scale[kRows];
  memcpy(add, input.add + state.block * sizeof(add), sizeof(add));
  memcpy(scale, input.scale + state.block * sizeof(scale), sizeof(scale));
  state.found = 0;
  for (std::size_t row = 0; row < kRows; ++row) {
    const float dot = input.step * static_cast<float>(sums[row]) + input.bias;
    const float estimate = (add[row] + input.term) + scale[row] * dot;
    const float lower = estimate - fabsf(scale[row]) * input.error;
    state.estimate[row] = estimate;
    state.lower[row] = lower;
    if (lower <= state.limit) state.found |= 1U << row;
  }
  state.found &= mask;
}

bool scan(const ScanInput& input, ScanState& state) {
  while (state.block <= input.last) {
    std::uint32_t mask = state.mask & kept_rows(input, state.block);
    if (state.block == input.last) mask &= input.last_mask;
    state.mask = 0xFFFFFFFFU;
    if (mask != 0) {
      std::uint32_t sums[kRows];
      sum_entries(input.blocks + state.block * input.width * kRows, input, sums);
      estimate_rows(input, sums, state, mask);
      state.rows_scanned += static_cast<std::uint64_t>(__builtin_popcount(mask));
      ++state.blocks_scanned;
    }
    ++state.block;
    if (mask != 0 && state.found != 0) return true;
  }
  return false;
}

void table(const float* query, const float* sums, std::size_t padded, float factor,
           std::uint8_t* entries) {
  for (std::size_t quad = 0; quad < padded / 4; ++quad) {
    const float* const q = query + 4 * quad;
    for (unsigned nibble = 0; nibble < kTableEntries; ++nibble) {
      const float first = (nibble & 1 ? q[0] : -q[0]) + (nibble & 2 ? q[1] : -q[1]);
      const float second = (nibble & 4 ? q[2] : -q[2]) + (nibble & 8 ? q[3] : -q[3]);
      const float steps = ((first + second) + sums[quad]) * factor;
      entries[quad * kTableEntries + nibble] = static_cast<std::uint8_t>(lrintf(steps));
    }
  }
}

}  // namespace

const ScanKernels kScanScalar = {scan, table};

}  // namespace whimbrel
