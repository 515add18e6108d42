// Distances in portable C++. Sixteen independent lanes let the compiler use the vectors that every
// processor of the architecture has (SSE2, NEON): about 4 to 6 GB/s in float32, half of that in
// float64.
#include <cstring>

#include "distance.hpp"

namespace whimbrel {
namespace {

// Rows may lie at any address, so values are copied out rather than pointed at.
inline float value_at(const unsigned char* row, std::size_t index) {
  float value;
  std::memcpy(&value, row + index * sizeof(float), sizeof value);
  return value;
}

inline float term_f32(float query, float value, bool squared_difference) {
  if (!squared_difference) return query * value;
  const float difference = query - value;
  return difference * difference;
}

template <bool kSquaredDifference>
float sum_f32(const float* query, const unsigned char* row, std::size_t dimension) {
  constexpr std::size_t kWide = 2 * kLanes;
  float lanes[kWide] = {};
  std::size_t start = 0;
  for (; start + kWide <= dimension; start += kWide) {
    float values[kWide];
    std::memcpy(values, row + start * sizeof(float), sizeof values);
    for (std::size_t j = 0; j < kWide; ++j) {
      lanes[j] += term_f32(query[start + j], values[j], kSquaredDifference);
    }
  }
  for (std::size_t j = 0; start + j < dimension; ++j) {
    lanes[j] += term_f32(query[start + j], value_at(row, start + j), kSquaredDifference);
  }
  for (std::size_t width = kLanes; width > 0; width /= 2) {
    for (std::size_t j = 0; j < width; ++j) lanes[j] += lanes[j + width];
  }
  return lanes[0];
}

inline double reduce(const double* lanes) {
  const double t0 = lanes[0] + lanes[4];
  const double t1 = lanes[1] + lanes[5];
  const double t2 = lanes[2] + lanes[6];
  const double t3 = lanes[3] + lanes[7];
  return (t0 + t2) + (t1 + t3);
}

inline double term_f64(double query, double value, bool squared_difference) {
  if (!squared_difference) return query * value;
  const double difference = query - value;
  return difference * difference;
}

template <bool kSquaredDifference>
double sum_f64(const double* query, const unsigned char* row, std::size_t dimension) {
  double lanes[kLanes] = {};
  std::size_t start = 0;
  for (; start + kLanes <= dimension; start += kLanes) {
    float values[kLanes];
    std::memcpy(values, row + start * sizeof(float), sizeof values);
    for (std::size_t j = 0; j < kLanes; ++j) {
      lanes[j] += term_f64(query[start + j], values[j], kSquaredDifference);
    }
  }
  for (std::size_t j = 0; start + j < dimension; ++j) {
    lanes[j] += term_f64(query[start + j], value_at(row, start + j), kSquaredDifference);
  }
  return reduce(lanes);
}

double norm_of(const unsigned char* row, std::size_t dimension) {
  double lanes[kLanes] = {};
  std::size_t start = 0;
  for (; start + kLanes <= dimension; start += kLanes) {
    for (std::size_t j = 0; j < kLanes; ++j) {
      const double value = value_at(row, start + j);
      lanes[j] += value * value;
    }
  }
  for (std::size_t j = 0; start + j < dimension; ++j) {
    const double value = value_at(row, start + j);
    lanes[j] += value * value;
  }
  return reduce(lanes);
}

template <bool kSquaredDifference>
void all_f32(const float* query, Rows rows, const std::int64_t* chosen, std::size_t count,
             float* out) {
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = sum_f32<kSquaredDifference>(query, rows.row(chosen[i]), rows.dimension);
  }
}

template <bool kSquaredDifference>
void all_f64(const double* query, Rows rows, const std::int64_t* chosen, std::size_t count,
             double* out) {
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = sum_f64<kSquaredDifference>(query, rows.row(chosen[i]), rows.dimension);
  }
}

void norms(Rows rows, std::int64_t start, std::size_t count, double* out) {
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = norm_of(rows.row(start + static_cast<std::int64_t>(i)), rows.dimension);
  }
}

}  // namespace

const DistanceKernels kDistanceScalar = {
    all_f32<false>, all_f32<true>, all_f64<false>, all_f64<true>, norms,
};

}  // namespace whimbrel
