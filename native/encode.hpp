// 1-bit codes of rotated rows; src/whimbrel/kernel/numpy_codes.py is the specification. Sums are
// float64 in the order that distance.hpp fixes, so every variant gives the same bits.
//
// The scalar file and those for an instruction set include nothing but this header and intrinsics.
#pragma once

#include <cstddef>
#include <cstdint>

namespace whimbrel {

// Sums over the coordinates of a row x, its centre c and its residual r = x - c (in float32).
struct ResidualSums {
  double square;      // r r
  double length;      // |r|
  double sign_dot;    // c, with the sign of r
  double dot;         // c r
  double row_square;  // x x
};

struct EncodeKernels {
  // Writes padded / 8 bytes of code. The row may lie at any address.
  ResidualSums (*encode)(const unsigned char* row, const unsigned char* centre, std::size_t padded,
                         std::uint8_t* code);
};

extern const EncodeKernels kEncodeScalar;
#if defined(WHIMBREL_AVX2)
extern const EncodeKernels kEncodeAvx2;
#endif

}  // namespace whimbrel
