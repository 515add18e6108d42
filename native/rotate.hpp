// The random rotation that comes before 1-bit codes; src/whimbrel/kernel/numpy_rotation.py is the
// specification. All arithmetic is float32 in one fixed order, so every variant gives the same
// bits.
//
// The scalar file and those for an instruction set include nothing but this header and intrinsics.
#pragma once

#include <cstddef>
#include <cstdint>

namespace whimbrel {

inline constexpr std::size_t kRotationRounds = 4;
inline constexpr std::size_t kDimensionStep = 64;

struct RotateKernels {
  // Rotates `padded` values in place. `signs` has padded / 64 words for each round, least
  // significant bit first, where a set bit means minus; `root` is the float32 nearest to 1 /
  // sqrt(width), where width is the largest power of two up to padded.
  void (*rotate)(float* row, const std::uint64_t* signs, std::size_t padded, std::size_t width,
                 float root);
};

extern const RotateKernels kRotateScalar;
#if defined(WHIMBREL_AVX2)
extern const RotateKernels kRotateAvx2;
#endif

}  // namespace whimbrel
