// 1-bit codes with AVX2: eight coordinates at a time, two registers of float64 lanes to a sum. The
// five sums are ten chains of additions, which covers their latency; the conversions to float64 are
// the limit, about 1,500 cycles for 768 coordinates.
#include <immintrin.h>

#include "encode.hpp"

namespace whimbrel {
namespace {

constexpr std::size_t kLanes = 8;

struct Wide {
  __m256d low;
  __m256d high;
};

inline Wide widen(__m256 value) {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(value)),
          _mm256_cvtps_pd(_mm256_extractf128_ps(value, 1))};
}

// Eight float64 lanes in the order of distance.hpp.
struct Lanes {
  __m256d low = _mm256_setzero_pd();
  __m256d high = _mm256_setzero_pd();

  void add(__m256d term_low, __m256d term_high) {
    low = _mm256_add_pd(low, term_low);
    high = _mm256_add_pd(high, term_high);
  }

  // The file is compiled with -ffp-contract=off, so these stay a multiplication and an addition.
  void add_products(Wide a, Wide b) {
    add(_mm256_mul_pd(a.low, b.low), _mm256_mul_pd(a.high, b.high));
  }

  double sum() const {
    const __m256d t = _mm256_add_pd(low, high);
    const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(t), _mm256_extractf128_pd(t, 1));
    return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
  }
};

// The loads take any address; the casts only name the type they want.
inline __m256 load(const unsigned char* row, std::size_t index) {
  return _mm256_loadu_ps(reinterpret_cast<const float*>(row) + index);
}

inline Wide load_wide(const unsigned char* row, std::size_t index) {
  const float* const values = reinterpret_cast<const float*>(row) + index;
  return {_mm256_cvtps_pd(_mm_loadu_ps(values)), _mm256_cvtps_pd(_mm_loadu_ps(values + 4))};
}

ResidualSums encode(const unsigned char* row, const unsigned char* centre, std::size_t padded,
                    std::uint8_t* code) {
  const __m256d sign = _mm256_set1_pd(-0.0);
  Lanes square, length, sign_dot, dot, row_square;
  for (std::size_t start = 0; start < padded; start += kLanes) {
    const __m256 narrow_x = load(row, start);
    const __m256 narrow_c = load(centre, start);
    const __m256 residual = _mm256_sub_ps(narrow_x, narrow_c);
    code[start / kLanes] = static_cast<std::uint8_t>(~_mm256_movemask_ps(residual));
    const Wide x = load_wide(row, start), c = load_wide(centre, start), r = widen(residual);
    square.add_products(r, r);
    length.add(_mm256_andnot_pd(sign, r.low), _mm256_andnot_pd(sign, r.high));
    sign_dot.add(_mm256_xor_pd(c.low, _mm256_and_pd(r.low, sign)),
                 _mm256_xor_pd(c.high, _mm256_and_pd(r.high, sign)));
    dot.add_products(c, r);
    row_square.add_products(x, x);
  }
  return {square.sum(), length.sum(), sign_dot.sum(), dot.sum(), row_square.sum()};
}

}  // namespace

const EncodeKernels kEncodeAvx2 = {encode};

}  // namespace whimbrel
