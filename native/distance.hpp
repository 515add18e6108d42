// Distances between a query and float32 rows: the table of functions that each instruction set
// fills in.
//
// The _f64 functions are exact up to float64 rounding and give the same bits everywhere: lane j of
// eight adds the terms of dimensions j, j + 8, ..., starting from 0; then t[i] = lane[i] + lane[i +
// 4], and the sum is (t[0] + t[2]) + (t[1] + t[3]). Multiplication and addition are never fused
// there. The _f32 functions are estimates: any order, fused or not, with at least eight lanes, so
// that a term meets at most dimension / 8 + 16 roundings. nearest.cpp allows for exactly that.
//
// Files that are compiled for an instruction set include nothing but this header and intrinsics: an
// inline function of the standard library compiled there could be the copy the linker keeps for
// everyone.
#pragma once

#include <cstddef>
#include <cstdint>

namespace whimbrel {

// Queries are padded with zeros to a multiple of this many values.
inline constexpr std::size_t kLanes = 8;

// Rows of `dimension` float32 values, back to back, at any address.
struct Rows {
  const unsigned char* data;
  std::size_t dimension;

  const unsigned char* row(std::int64_t index) const {
    return data + static_cast<std::size_t>(index) * dimension * sizeof(float);
  }
};

// Each function computes out[i] for rows chosen[i], 0 <= i < count. Indexes must be valid.
struct DistanceKernels {
  // Dot product; squared euclidean distance.
  void (*dot_f32)(const float* query, Rows rows, const std::int64_t* chosen, std::size_t count,
                  float* out);
  void (*l2_f32)(const float* query, Rows rows, const std::int64_t* chosen, std::size_t count,
                 float* out);
  void (*dot_f64)(const double* query, Rows rows, const std::int64_t* chosen, std::size_t count,
                  double* out);
  void (*l2_f64)(const double* query, Rows rows, const std::int64_t* chosen, std::size_t count,
                 double* out);
  // Squared norm of rows start to start + count.
  void (*norm_f64)(Rows rows, std::int64_t start, std::size_t count, double* out);
};

extern const DistanceKernels kDistanceScalar;
#if defined(WHIMBREL_AVX2)
extern const DistanceKernels kDistanceAvx2;
#endif

}  // namespace whimbrel
