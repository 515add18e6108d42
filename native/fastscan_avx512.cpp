// Scans with AVX-512 (F, BW, VBMI and VNNI: Intel since Ice Lake, AMD since Zen 4).
//
// 64 bytes of a block are four tables and 32 rows. One byte permutation brings the four indexes of
// a row side by side; with the number of the table put above each index, a second permutation looks
// all 64 up in the 64 entries of the four tables; a dot product with ones adds the four entries of
// a row to its 32-bit sum. That is eight operations for 128 lookups, and no overflow to care for:
// 1,024 entries of at most 255 stay below 2^18.
#include <immintrin.h>

#include "fastscan.hpp"

namespace whimbrel {
namespace {

constexpr std::size_t kBlockRows = 32;
constexpr std::size_t kAheadBytes = 4096;

inline __m512i load(const std::uint8_t* bytes) { return _mm512_loadu_si512(bytes); }

// Byte 4 i + j of the result comes from byte 16 j + i.
inline __m512i row_order() {
  const __m512i start = _mm512_set1_epi32(0x30201000);
  const __m512i row =
      _mm512_setr_epi32(0x00000000, 0x01010101, 0x02020202, 0x03030303, 0x04040404, 0x05050505,
                        0x06060606, 0x07070707, 0x08080808, 0x09090909, 0x0A0A0A0A, 0x0B0B0B0B,
                        0x0C0C0C0C, 0x0D0D0D0D, 0x0E0E0E0E, 0x0F0F0F0F);
  return _mm512_or_si512(start, row);
}

struct Sums {
  __m512i low;
  __m512i high;
};

inline Sums sum_entries(const std::uint8_t* block, const ScanInput& input) {
  constexpr int kAndOr = 0xEA;  // (a & b) | c
  const __m512i order = row_order();
  const __m512i nibble = _mm512_set1_epi8(15);
  const __m512i table = _mm512_set1_epi32(0x30201000);
  const __m512i ones = _mm512_set1_epi8(1);
  __m512i low = _mm512_setzero_si512(), high = low;
  for (std::size_t pair = 0; pair < input.width; pair += 2) {
    const __m512i indexes = _mm512_permutexvar_epi8(order, load(block + pair * kBlockRows));
    const __m512i entries = load(input.entries + pair * 2 * kTableEntries);
    const __m512i low_indexes = _mm512_ternarylogic_epi32(indexes, nibble, table, kAndOr);
    const __m512i high_indexes =
        _mm512_ternarylogic_epi32(_mm512_srli_epi16(indexes, 4), nibble, table, kAndOr);
    low = _mm512_dpbusd_epi32(low, _mm512_permutexvar_epi8(low_indexes, entries), ones);
    high = _mm512_dpbusd_epi32(high, _mm512_permutexvar_epi8(high_indexes, entries), ones);
  }
  return {low, high};
}

// Estimates 16 rows and returns a bit for each one within the limit.
inline std::uint32_t estimate_rows(const ScanInput& input, ScanState& state, std::size_t place,
                                   __m512i sums) {
  const std::size_t row = state.block * kBlockRows + place;
  const __m512 add = _mm512_loadu_ps(reinterpret_cast<const float*>(input.add) + row);
  const __m512 scale = _mm512_loadu_ps(reinterpret_cast<const float*>(input.scale) + row);
  const __m512 dot =
      _mm512_add_ps(_mm512_mul_ps(_mm512_set1_ps(input.step), _mm512_cvtepi32_ps(sums)),
                    _mm512_set1_ps(input.bias));
  const __m512 estimate =
      _mm512_add_ps(_mm512_add_ps(add, _mm512_set1_ps(input.term)), _mm512_mul_ps(scale, dot));
  const __m512 lower =
      _mm512_sub_ps(estimate, _mm512_mul_ps(_mm512_abs_ps(scale), _mm512_set1_ps(input.error)));
  _mm512_storeu_ps(state.estimate + place, estimate);
  _mm512_storeu_ps(state.lower + place, lower);
  const __mmask16 near = _mm512_cmp_ps_mask(lower, _mm512_set1_ps(state.limit), _CMP_LE_OQ);
  return static_cast<std::uint32_t>(near) << place;
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
    const Sums sums = sum_entries(block, input);
    state.found = mask & (estimate_rows(input, state, 0, sums.low) |
                          estimate_rows(input, state, 16, sums.high));
    state.rows_scanned += static_cast<std::uint64_t>(__builtin_popcount(mask));
    ++state.blocks_scanned;
    ++state.block;
    if (state.found != 0) return true;
  }
  return false;
}

void table(const float* query, const float* sums, std::size_t padded, float factor,
           std::uint8_t* entries) {
  const __m512 factors = _mm512_set1_ps(factor);
  const __m512i minus = _mm512_set1_epi32(static_cast<int>(0x80000000U));
  for (std::size_t quad = 0; quad < padded / 4; ++quad) {
    const float* const q = query + 4 * quad;
    // A coordinate counts as minus where its bit of the entry's number is not set.
    const auto signed_value = [&](std::size_t i, __mmask16 plus) {
      const __m512 value = _mm512_set1_ps(q[i]);
      const __m512i negated = _mm512_xor_si512(_mm512_castps_si512(value), minus);
      return _mm512_mask_mov_ps(_mm512_castsi512_ps(negated), plus, value);
    };
    const __m512 left = _mm512_add_ps(signed_value(0, 0xAAAA), signed_value(1, 0xCCCC));
    const __m512 right = _mm512_add_ps(signed_value(2, 0xF0F0), signed_value(3, 0xFF00));
    const __m512 shifted = _mm512_add_ps(_mm512_add_ps(left, right), _mm512_set1_ps(sums[quad]));
    const __m512i steps = _mm512_cvtps_epi32(_mm512_mul_ps(shifted, factors));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(entries + quad * kTableEntries),
                     _mm512_cvtusepi32_epi8(steps));
  }
}

}  // namespace

const ScanKernels kScanAvx512 = {scan, table};

}  // namespace whimbrel
