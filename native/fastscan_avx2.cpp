// Scans with AVX2. A shuffle looks up 16 rows in each of two tables at once: 32 bytes of a block
// are two shuffles and nine cheap operations for 64 lookups.
//
// Sums are kept in 16 bits: one accumulator adds the shuffled bytes as 16-bit words, low byte plus
// 256 times the high byte modulo 2^16, the other the high bytes alone; their difference leaves the
// low bytes. A word gets one entry of at most 255 to a pair of tables, so 256 pairs stay below
// 2^16; then the sums are widened. A dimension of 768 takes about 360 cycles to a block.
#include <immintrin.h>

#include "fastscan.hpp"

namespace whimbrel {
namespace {

constexpr std::size_t kBlockRows = 32;
constexpr std::size_t kPairsMax = 256;
// How far ahead blocks are asked for: beyond what the processor does by itself at the end of a
// page.
constexpr std::size_t kAheadBytes = 4096;

inline __m256i load(const std::uint8_t* bytes) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
}

// Sums of 16 rows, in order.
struct Sums {
  __m256i first = _mm256_setzero_si256();
  __m256i second = _mm256_setzero_si256();

  // Widens and adds the words of both lanes. `raw` and `odd` are as described above.
  void add(__m256i raw, __m256i odd) {
    const __m256i even = _mm256_sub_epi16(raw, _mm256_slli_epi16(odd, 8));
    const __m256i evens = widened(even);  // rows 0, 2, ..., 14
    const __m256i odds = widened(odd);    // rows 1, 3, ..., 15
    const __m256i low = _mm256_unpacklo_epi32(evens, odds);
    const __m256i high = _mm256_unpackhi_epi32(evens, odds);
    first = _mm256_add_epi32(first, _mm256_permute2x128_si256(low, high, 0x20));
    second = _mm256_add_epi32(second, _mm256_permute2x128_si256(low, high, 0x31));
  }

 private:
  static __m256i widened(__m256i words) {
    return _mm256_add_epi32(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(words)),
                            _mm256_cvtepu16_epi32(_mm256_extracti128_si256(words, 1)));
  }
};

inline void sum_entries(const std::uint8_t* block, const ScanInput& input, Sums& low, Sums& high) {
  const __m256i nibble = _mm256_set1_epi8(15);
  for (std::size_t start = 0; start < input.width; start += kPairsMax) {
    const std::size_t rest = input.width - start;
    const std::size_t limit = start + (rest < kPairsMax ? rest : kPairsMax);
    __m256i low_raw = _mm256_setzero_si256(), low_odd = low_raw;
    __m256i high_raw = low_raw, high_odd = low_raw;
    for (std::size_t pair = start; pair < limit; ++pair) {
      const __m256i indexes = load(block + pair * kBlockRows);
      const __m256i entries = load(input.entries + pair * 2 * kTableEntries);
      const __m256i low_indexes = _mm256_and_si256(indexes, nibble);
      const __m256i high_indexes = _mm256_and_si256(_mm256_srli_epi16(indexes, 4), nibble);
      const __m256i low_found = _mm256_shuffle_epi8(entries, low_indexes);
      const __m256i high_found = _mm256_shuffle_epi8(entries, high_indexes);
      low_raw = _mm256_add_epi16(low_raw, low_found);
      low_odd = _mm256_add_epi16(low_odd, _mm256_srli_epi16(low_found, 8));
      high_raw = _mm256_add_epi16(high_raw, high_found);
      high_odd = _mm256_add_epi16(high_odd, _mm256_srli_epi16(high_found, 8));
    }
    low.add(low_raw, low_odd);
    high.add(high_raw, high_odd);
  }
}

// Estimates eight rows and returns a bit for each one within the limit.
inline std::uint32_t estimate_rows(const ScanInput& input, ScanState& state, std::size_t place,
                                   __m256i sums) {
  const std::size_t row = state.block * kBlockRows + place;
  const __m256 add = _mm256_loadu_ps(reinterpret_cast<const float*>(input.add) + row);
  const __m256 scale = _mm256_loadu_ps(reinterpret_cast<const float*>(input.scale) + row);
  const __m256 dot =
      _mm256_add_ps(_mm256_mul_ps(_mm256_set1_ps(input.step), _mm256_cvtepi32_ps(sums)),
                    _mm256_set1_ps(input.bias));
  const __m256 estimate =
      _mm256_add_ps(_mm256_add_ps(add, _mm256_set1_ps(input.term)), _mm256_mul_ps(scale, dot));
  const __m256 size = _mm256_andnot_ps(_mm256_set1_ps(-0.0F), scale);
  const __m256 lower = _mm256_sub_ps(estimate, _mm256_mul_ps(size, _mm256_set1_ps(input.error)));
  _mm256_storeu_ps(state.estimate + place, estimate);
  _mm256_storeu_ps(state.lower + place, lower);
  const __m256 near = _mm256_cmp_ps(lower, _mm256_set1_ps(state.limit), _CMP_LE_OQ);
  return static_cast<std::uint32_t>(_mm256_movemask_ps(near)) << place;
}

inline void prefetch(const std::uint8_t* block, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; i += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(block) + kAheadBytes + i, _MM_HINT_T0);
  }
}

bool scan(const ScanInput& input, ScanState& state) {
  const std::size_t bytes = input.width * kBlockRows;
  while (state.block <= input.last) {
    std::uint32_t mask = state.mask & kept_rows(input, state.block);
    if (state.block == input.last) mask &= input.last_mask;
    state.mask = 0xFFFFFFFFU;
    if (mask == 0) {
      ++state.block;
      continue;
    }
    const std::uint8_t* const block = input.blocks + state.block * bytes;
    prefetch(block, bytes);
    Sums low, high;
    sum_entries(block, input, low, high);
    state.found = mask & (estimate_rows(input, state, 0, low.first) |
                          estimate_rows(input, state, 8, low.second) |
                          estimate_rows(input, state, 16, high.first) |
                          estimate_rows(input, state, 24, high.second));
    state.rows_scanned += static_cast<std::uint64_t>(__builtin_popcount(mask));
    ++state.blocks_scanned;
    ++state.block;
    if (state.found != 0) return true;
  }
  return false;
}

// Eight entries: `high` is the sign of the last coordinate.
inline __m256i eight_entries(const float* q, __m256 sum, __m256 factor, float last) {
  const __m256 first_sign = _mm256_setr_ps(-0.0F, 0.0F, -0.0F, 0.0F, -0.0F, 0.0F, -0.0F, 0.0F);
  const __m256 second_sign = _mm256_setr_ps(-0.0F, -0.0F, 0.0F, 0.0F, -0.0F, -0.0F, 0.0F, 0.0F);
  const __m256 third_sign = _mm256_setr_ps(-0.0F, -0.0F, -0.0F, -0.0F, 0.0F, 0.0F, 0.0F, 0.0F);
  const __m256 left = _mm256_add_ps(_mm256_xor_ps(_mm256_set1_ps(q[0]), first_sign),
                                    _mm256_xor_ps(_mm256_set1_ps(q[1]), second_sign));
  const __m256 right =
      _mm256_add_ps(_mm256_xor_ps(_mm256_set1_ps(q[2]), third_sign), _mm256_set1_ps(last));
  const __m256 steps = _mm256_mul_ps(_mm256_add_ps(_mm256_add_ps(left, right), sum), factor);
  return _mm256_cvtps_epi32(steps);
}

void table(const float* query, const float* sums, std::size_t padded, float factor,
           std::uint8_t* entries) {
  const __m256 factors = _mm256_set1_ps(factor);
  for (std::size_t quad = 0; quad < padded / 4; ++quad) {
    const float* const q = query + 4 * quad;
    const __m256 sum = _mm256_set1_ps(sums[quad]);
    const __m256i low = eight_entries(q, sum, factors, -q[3]);
    const __m256i high = eight_entries(q, sum, factors, q[3]);
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xD8);
    const __m128i bytes =
        _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(entries + quad * kTableEntries), bytes);
  }
}

}  // namespace

const ScanKernels kScanAvx2 = {scan, table};

}  // namespace whimbrel
