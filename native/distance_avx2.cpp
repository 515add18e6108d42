// Distances with AVX2 and FMA (x86-64 since 2013): eight float32 values to a register.
//
// The float32 estimates take four rows at a time, two accumulators each: eight chains cover the
// latency of FMA (4 cycles, 2 a cycle), and each value of the query is loaded once for four rows.
// Tails use masked loads, which never touch memory beyond the row. Memory is the limit: 12 to 20
// GB/s from one core. The float64 sums keep the order that distance.hpp fixes in two registers,
// lanes 0-3 and 4-7.
#include <immintrin.h>

#include "distance.hpp"

namespace whimbrel {
namespace {

inline __m256i tail_mask(std::size_t dimension) {
  const __m256i place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(dimension % kLanes)), place);
}

// `_mm256_loadu_ps` and the masked load take any address; the casts only name the type they want.
inline __m256 load(const unsigned char* row, std::size_t index) {
  return _mm256_loadu_ps(reinterpret_cast<const float*>(row) + index);
}

inline __m256 load_tail(const unsigned char* row, std::size_t index, __m256i mask) {
  return _mm256_maskload_ps(reinterpret_cast<const float*>(row) + index, mask);
}

template <bool kSquaredDifference>
inline __m256 add_term(__m256 sum, __m256 query, __m256 value) {
  if constexpr (!kSquaredDifference) return _mm256_fmadd_ps(query, value, sum);
  const __m256 difference = _mm256_sub_ps(query, value);
  return _mm256_fmadd_ps(difference, difference, sum);
}

inline float reduce(__m256 sum) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

// Estimates for kCount rows at once. While it works on these, it asks for the same bytes of the
// rows `next`.
template <bool kSquaredDifference, int kCount>
inline void group_f32(const float* query, const unsigned char* const* row,
                      const unsigned char* const* next, std::size_t dimension, float* out) {
  __m256 even[kCount], odd[kCount];
  for (int r = 0; r < kCount; ++r) even[r] = odd[r] = _mm256_setzero_ps();
  std::size_t start = 0;
  for (; start + 2 * kLanes <= dimension; start += 2 * kLanes) {
    const __m256 query_even = _mm256_loadu_ps(query + start);
    const __m256 query_odd = _mm256_loadu_ps(query + start + kLanes);
    for (int r = 0; r < kCount; ++r) {
      _mm_prefetch(reinterpret_cast<const char*>(next[r]) + start * sizeof(float), _MM_HINT_T0);
      even[r] = add_term<kSquaredDifference>(even[r], query_even, load(row[r], start));
      odd[r] = add_term<kSquaredDifference>(odd[r], query_odd, load(row[r], start + kLanes));
    }
  }
  if (start + kLanes <= dimension) {
    const __m256 query_even = _mm256_loadu_ps(query + start);
    for (int r = 0; r < kCount; ++r) {
      even[r] = add_term<kSquaredDifference>(even[r], query_even, load(row[r], start));
    }
    start += kLanes;
  }
  if (start < dimension) {
    const __m256i mask = tail_mask(dimension);
    const __m256 query_odd = _mm256_loadu_ps(query + start);
    for (int r = 0; r < kCount; ++r) {
      odd[r] = add_term<kSquaredDifference>(odd[r], query_odd, load_tail(row[r], start, mask));
    }
  }
  for (int r = 0; r < kCount; ++r) out[r] = reduce(_mm256_add_ps(even[r], odd[r]));
}

template <bool kSquaredDifference>
void all_f32(const float* query, Rows rows, const std::int64_t* chosen, std::size_t count,
             float* out) {
  constexpr std::size_t kGroup = 4;
  std::size_t i = 0;
  for (; i + kGroup <= count; i += kGroup) {
    const unsigned char* row[kGroup];
    const unsigned char* next[kGroup];
    for (std::size_t r = 0; r < kGroup; ++r) {
      row[r] = rows.row(chosen[i + r]);
      next[r] = i + kGroup + r < count ? rows.row(chosen[i + kGroup + r]) : row[r];
    }
    group_f32<kSquaredDifference, kGroup>(query, row, next, rows.dimension, out + i);
  }
  for (; i < count; ++i) {
    const unsigned char* row = rows.row(chosen[i]);
    group_f32<kSquaredDifference, 1>(query, &row, &row, rows.dimension, out + i);
  }
}

// Eight float64 lanes in the order of distance.hpp.
struct Lanes {
  __m256d low = _mm256_setzero_pd();
  __m256d high = _mm256_setzero_pd();

  // The file is compiled with -ffp-contract=off, so these stay a multiplication and an addition.
  void add_products(__m256d a_low, __m256d a_high, __m256d b_low, __m256d b_high) {
    low = _mm256_add_pd(low, _mm256_mul_pd(a_low, b_low));
    high = _mm256_add_pd(high, _mm256_mul_pd(a_high, b_high));
  }

  double sum() const {
    const __m256d t = _mm256_add_pd(low, high);
    const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(t), _mm256_extractf128_pd(t, 1));
    return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
  }
};

inline __m256d low_half(__m256 value) { return _mm256_cvtps_pd(_mm256_castps256_ps128(value)); }
inline __m256d high_half(__m256 value) { return _mm256_cvtps_pd(_mm256_extractf128_ps(value, 1)); }

// Eight values widened. From memory that is two conversions; from a register it takes shuffles.
struct Wide {
  __m256d low;
  __m256d high;
};

inline Wide load_wide(const unsigned char* row, std::size_t index) {
  const float* const values = reinterpret_cast<const float*>(row) + index;
  return {_mm256_cvtps_pd(_mm_loadu_ps(values)), _mm256_cvtps_pd(_mm_loadu_ps(values + 4))};
}

inline Wide widen(__m256 value) { return {low_half(value), high_half(value)}; }

template <bool kSquaredDifference>
inline void step_f64(Lanes& lanes, const double* query, Wide value) {
  const __m256d query_low = _mm256_loadu_pd(query);
  const __m256d query_high = _mm256_loadu_pd(query + 4);
  if constexpr (kSquaredDifference) {
    const __m256d low = _mm256_sub_pd(query_low, value.low);
    const __m256d high = _mm256_sub_pd(query_high, value.high);
    lanes.add_products(low, high, low, high);
  } else {
    lanes.add_products(query_low, query_high, value.low, value.high);
  }
}

// Exact sums for kCount rows at once: one row alone would wait for its additions.
template <bool kSquaredDifference, int kCount>
inline void group_f64(const double* query, const unsigned char* const* row, std::size_t dimension,
                      double* out) {
  Lanes lanes[kCount];
  std::size_t start = 0;
  for (; start + kLanes <= dimension; start += kLanes) {
    for (int r = 0; r < kCount; ++r) {
      step_f64<kSquaredDifference>(lanes[r], query + start, load_wide(row[r], start));
    }
  }
  if (start < dimension) {
    const __m256i mask = tail_mask(dimension);
    for (int r = 0; r < kCount; ++r) {
      const Wide value = widen(load_tail(row[r], start, mask));
      step_f64<kSquaredDifference>(lanes[r], query + start, value);
    }
  }
  for (int r = 0; r < kCount; ++r) out[r] = lanes[r].sum();
}

template <bool kSquaredDifference>
void all_f64(const double* query, Rows rows, const std::int64_t* chosen, std::size_t count,
             double* out) {
  constexpr std::size_t kGroup = 4;
  std::size_t i = 0;
  for (; i + kGroup <= count; i += kGroup) {
    const unsigned char* row[kGroup];
    for (std::size_t r = 0; r < kGroup; ++r) row[r] = rows.row(chosen[i + r]);
    group_f64<kSquaredDifference, kGroup>(query, row, rows.dimension, out + i);
  }
  for (; i < count; ++i) {
    const unsigned char* row = rows.row(chosen[i]);
    group_f64<kSquaredDifference, 1>(query, &row, rows.dimension, out + i);
  }
}

inline void add_square(Lanes& lanes, Wide value) {
  lanes.add_products(value.low, value.high, value.low, value.high);
}

void norms(Rows rows, std::int64_t first, std::size_t count, double* out) {
  const __m256i mask = tail_mask(rows.dimension);
  for (std::size_t i = 0; i < count; ++i) {
    const unsigned char* row = rows.row(first + static_cast<std::int64_t>(i));
    Lanes lanes;
    std::size_t start = 0;
    for (; start + kLanes <= rows.dimension; start += kLanes)
      add_square(lanes, load_wide(row, start));
    if (start < rows.dimension) add_square(lanes, widen(load_tail(row, start, mask)));
    out[i] = lanes.sum();
  }
}

}  // namespace

const DistanceKernels kDistanceAvx2 = {
    all_f32<false>, all_f32<true>, all_f64<false>, all_f64<true>, norms,
};

}  // namespace whimbrel
