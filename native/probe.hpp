// Nearest rows through codes: posting lists are probed, and the best candidates compared exactly.
// src/whimbrel/kernel/numpy_probe.py is the specification.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "candidates.hpp"
#include "dispatch.hpp"
#include "guard.hpp"
#include "nearest.hpp"

namespace whimbrel {

// Vectors and their norms, float32 and float64 at any address.
struct StoredRows {
  Rows rows;
  const unsigned char* norms;
  std::size_t count;
  Guard row_guard;
  Guard norm_guard;

  // Verifies a row and its norm; returns false when they are not here yet.
  bool ensure(std::size_t row) const {
    const std::size_t row_bytes = rows.dimension * sizeof(float);
    const bool is_here = row_guard.ensure(row * row_bytes, (row + 1) * row_bytes);
    return norm_guard.ensure(row * sizeof(double), (row + 1) * sizeof(double)) && is_here;
  }
};

// Codes of centroids, all around one mean; only where lists are many.
struct CentreCodes {
  const std::uint8_t* blocks;  // null where there are none
  const unsigned char* add;
  const unsigned char* scale;
  const unsigned char* mean;  // float32
};

// Squared norms of centroids, computed when first asked for. Threads that meet compute the same.
class CentreSquares {
 public:
  CentreSquares() = default;
  CentreSquares(Rows centres, std::size_t count)
      : centres_(centres), squares_(count, std::numeric_limits<double>::quiet_NaN()) {}

  double of(const DistanceKernels& kernels, std::int64_t number) const {
    double& place = squares_[static_cast<std::size_t>(number)];
    double square;
    __atomic_load(&place, &square, __ATOMIC_RELAXED);
    if (std::isnan(square)) {
      kernels.norm_f64(centres_, number, 1, &square);
      __atomic_store(&place, &square, __ATOMIC_RELAXED);
    }
    return square;
  }

 private:
  Rows centres_{};
  mutable std::vector<double> squares_;
};

// Codes of rows by posting list, m lists. Arrays may lie at any address except `starts`.
struct CodedRows {
  std::size_t dimension;  // of the vectors; that of codes is the centres'
  std::uint64_t seed;
  const unsigned char* origin;  // float32, null under cosine
  const std::uint8_t* blocks;
  const unsigned char* add;
  const unsigned char* scale;
  std::span<const std::int64_t> starts;  // m + 1
  Rows centres;                          // rotated
  const unsigned char* spreads;          // float32
  float spread;                          // of the error bound
  std::span<const std::uint32_t> outside;
  CentreCodes codes;
  CentreSquares centre_squares;
  Guard block_guard;
  Guard add_guard;
  Guard scale_guard;
  Guard centre_guard;
  bool has_empty_lists;

  std::size_t list_count() const { return starts.size() - 1; }
};

// Where to look: coded rows, which are rows first_row and following of the stored ones.
struct ProbeSource {
  const CodedRows& coded;
  std::uint32_t stored;  // its number
  std::int64_t first_row;
  const std::uint8_t* keep;  // one bit to a coded row, or null
  std::size_t keep_bytes;    // bits beyond are zero
};

struct ProbeOptions {
  Metric metric;
  std::size_t k;
  std::size_t rows_max;
  std::int64_t row_budget;
  float epsilon;
  std::size_t first_list_count;
  double first_share;
  std::size_t first_ratio;
  std::size_t first_rows;
  double rounding;
  double norm_min;
  double norm_max;
};

struct Probed {
  bool in_range;   // otherwise the query is out of the codes' range, and nothing was found
  bool is_absent;  // something is not here yet; stored and row say what would have been compared
  std::vector<std::uint32_t> stored;
  std::vector<std::int64_t> row;  // in the stored rows
  std::vector<double> distance;
  std::uint64_t row_count;   // estimated
  std::uint64_t list_count;  // scanned
  std::uint64_t exact_count;
};

// `query` has as many values as vectors do, at any address.
Probed probe(const Kernels& kernels, std::span<const ProbeSource> sources,
             std::span<const StoredRows* const> stored, const unsigned char* query,
             const ProbeOptions& options);

}  // namespace whimbrel
