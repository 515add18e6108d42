// The rotation in portable C++: one pass over the row for each stage of the transform.
#include "rotate.hpp"

namespace whimbrel {
namespace {

constexpr float kHalfRoot = 0x1.6a09e6p-1F;

void flip(float* row, const std::uint64_t* signs, std::size_t padded) {
  for (std::size_t i = 0; i < padded; ++i) {
    const bool minus = (signs[i / 64] >> (i % 64) & 1) != 0;
    row[i] = minus ? -row[i] : row[i];
  }
}

void hadamard(float* values, std::size_t width, float root) {
  for (std::size_t stride = 1; stride < width; stride *= 2) {
    for (std::size_t start = 0; start < width; start += 2 * stride) {
      float* const low = values + start;
      float* const high = low + stride;
      for (std::size_t i = 0; i < stride; ++i) {
        const float sum = low[i] + high[i];
        high[i] = low[i] - high[i];
        low[i] = sum;
      }
    }
  }
  for (std::size_t i = 0; i < width; ++i) values[i] *= root;
}

void mix(float* row, std::size_t half) {
  for (std::size_t i = 0; i < half; ++i) {
    const float sum = row[i] + row[half + i];
    row[half + i] = (row[i] - row[half + i]) * kHalfRoot;
    row[i] = sum * kHalfRoot;
  }
}

void rotate(float* row, const std::uint64_t* signs, std::size_t padded, std::size_t width,
            float root) {
  for (std::size_t round = 0; round < kRotationRounds; ++round) {
    flip(row, signs + round * (padded / 64), padded);
    hadamard(row + (round % 2 == 0 ? 0 : padded - width), width, root);
    if (width != padded) mix(row, padded / 2);
  }
}

}  // namespace

const RotateKernels kRotateScalar = {rotate};

}  // namespace whimbrel
