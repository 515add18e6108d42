#include "codes.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace whimbrel {
namespace {

// Between these squared norms, factors stay in the range of float32; docs/concepts/kernels.md
// derives them.
constexpr double kSquareMin = 0x1p-60;
constexpr double kSquareMax = 0x1p112;

std::uint64_t splitmix64(std::uint64_t seed, std::uint64_t number) {
  std::uint64_t word = seed + (number + 1) * 0x9E3779B97F4A7C15U;
  word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9U;
  word = (word ^ (word >> 27)) * 0x94D049BB133111EBU;
  return word ^ (word >> 31);
}

// Copies a row to an aligned place, prepared for rotation, and fills it up with zeros.
void prepare(const unsigned char* row, std::size_t dimension, const float* origin, double norm,
             bool divide, std::size_t padded, float* out) {
  std::memcpy(out, row, dimension * sizeof(float));
  std::fill(out + dimension, out + padded, 0.0F);
  if (origin != nullptr) {
    for (std::size_t i = 0; i < dimension; ++i) out[i] -= origin[i];
  } else if (divide) {
    const double factor = norm > 0.0 ? 1.0 / norm : 0.0;
    for (std::size_t i = 0; i < dimension; ++i) {
      out[i] = static_cast<float>(static_cast<double>(out[i]) * factor);
    }
  }
}

bool inside(double square, Metric metric) {
  return (square >= kSquareMin && square <= kSquareMax) ||
         (metric == Metric::kEuclidean && square == 0.0);
}

}  // namespace

void rotate_rows(const Kernels& kernels, Rows rows, std::size_t count, std::uint64_t seed,
                 const unsigned char* origin, const double* norms, std::size_t padded, float* out) {
  std::vector<std::uint64_t> signs(kRotationRounds * padded / 64);
  for (std::size_t i = 0; i < signs.size(); ++i) signs[i] = splitmix64(seed, i);
  std::vector<float> moved(origin != nullptr ? rows.dimension : 0);
  if (origin != nullptr) std::memcpy(moved.data(), origin, rows.dimension * sizeof(float));
  std::size_t width = 1;
  while (2 * width <= padded) width *= 2;
  const auto root = static_cast<float>(1.0 / std::sqrt(static_cast<double>(width)));
  for (std::size_t i = 0; i < count; ++i) {
    float* const row = out + i * padded;
    prepare(rows.row(static_cast<std::int64_t>(i)), rows.dimension,
            origin != nullptr ? moved.data() : nullptr, norms != nullptr ? norms[i] : 0.0,
            norms != nullptr, padded, row);
    kernels.rotate.rotate(row, signs.data(), padded, width, root);
  }
}

double encode_rows(const Kernels& kernels, Rows rows, std::span<const std::uint32_t> posting,
                   Rows centres, std::size_t centre_count, Metric metric, const CodeArrays& out) {
  const std::size_t padded = rows.dimension;
  const auto dimension = static_cast<double>(padded);
  std::vector<double> centre_squares(centre_count);
  kernels.distance.norm_f64(centres, 0, centre_count, centre_squares.data());
  double spread = 0.0;
  for (std::size_t i = 0; i < posting.size(); ++i) {
    std::uint8_t* const code = out.codes + i * (padded / 8);
    const ResidualSums sums = kernels.encode.encode(rows.row(static_cast<std::int64_t>(i)),
                                                    centres.row(posting[i]), padded, code);
    if (!inside(sums.row_square, metric) || !(centre_squares[posting[i]] <= kSquareMax)) {
      std::fill(code, code + padded / 8, std::uint8_t{0});
      out.add[i] = std::numeric_limits<float>::infinity();
      out.scale[i] = 0.0F;
      out.outside[i] = 1;
      continue;
    }
    const double factor = sums.length > 0.0 ? sums.square / sums.length : 0.0;
    const bool cosine = metric == Metric::kCosine;
    const double add = cosine ? (1.0 - sums.dot) + factor * sums.sign_dot
                              : sums.square + (2.0 * factor) * sums.sign_dot;
    out.add[i] = static_cast<float>(add);
    out.scale[i] = static_cast<float>(cosine ? -factor : -2.0 * factor);
    out.outside[i] = 0;
    if (sums.square > 0.0) {
      const double aligned = (sums.length * sums.length) / (dimension * sums.square);
      const double beyond = std::max(1.0 - aligned, 0.0);
      spread = std::max(spread, std::sqrt(beyond * (dimension / (dimension - 1.0))));
    }
  }
  return spread;
}

void pack_blocks(const std::uint8_t* codes, std::size_t count, std::size_t width,
                 std::uint8_t* blocks) {
  constexpr std::size_t kHalf = kBlockRows / 2;
  const std::size_t block_count = (count + kBlockRows - 1) / kBlockRows;
  std::memset(blocks, 0, block_count * kBlockRows * width);
  for (std::size_t row = 0; row < count; ++row) {
    std::uint8_t* const block = blocks + row / kBlockRows * kBlockRows * width;
    const std::size_t place = row % kHalf;
    const unsigned shift = row % kBlockRows < kHalf ? 0 : 4;
    for (std::size_t i = 0; i < width; ++i) {
      const unsigned byte = codes[row * width + i];
      std::uint8_t* const pair = block + i * kBlockRows + place;
      pair[0] = static_cast<std::uint8_t>(pair[0] | (byte & 15) << shift);
      pair[kHalf] = static_cast<std::uint8_t>(pair[kHalf] | (byte >> 4) << shift);
    }
  }
}

void unpack_blocks(const std::uint8_t* blocks, std::size_t count, std::size_t width,
                   std::uint8_t* codes) {
  constexpr std::size_t kHalf = kBlockRows / 2;
  for (std::size_t row = 0; row < count; ++row) {
    const std::uint8_t* const block = blocks + row / kBlockRows * kBlockRows * width;
    const std::size_t place = row % kHalf;
    const unsigned shift = row % kBlockRows < kHalf ? 0 : 4;
    for (std::size_t i = 0; i < width; ++i) {
      const std::uint8_t* const pair = block + i * kBlockRows + place;
      const unsigned low = static_cast<unsigned>(pair[0]) >> shift & 15;
      const unsigned high = static_cast<unsigned>(pair[kHalf]) >> shift & 15;
      codes[row * width + i] = static_cast<std::uint8_t>(low | high << 4);
    }
  }
}

void posting_terms(const Kernels& kernels, const unsigned char* query, Rows centres,
                   std::span<const std::int64_t> chosen, Metric metric, float* terms,
                   float* distances) {
  const std::size_t count = chosen.size();
  std::vector<float> narrow(centres.dimension);
  std::memcpy(narrow.data(), query, centres.dimension * sizeof(float));
  const std::vector<double> wide(narrow.begin(), narrow.end());
  std::vector<double> sums(count);
  kernels.distance.l2_f64(wide.data(), centres, chosen.data(), count, sums.data());
  for (std::size_t i = 0; i < count; ++i) {
    terms[i] = static_cast<float>(sums[i]);
    distances[i] = static_cast<float>(std::sqrt(sums[i]));
  }
  if (metric == Metric::kCosine) {
    kernels.distance.dot_f64(wide.data(), centres, chosen.data(), count, sums.data());
    for (std::size_t i = 0; i < count; ++i) terms[i] = static_cast<float>(-sums[i]);
  }
}

}  // namespace whimbrel
