// 1-bit codes in portable C++, eight coordinates at a time.
#include <string.h>

#include "encode.hpp"

namespace whimbrel {
namespace {

constexpr std::size_t kLanes = 8;

double sum_of(const double* lanes) {
  const double t0 = lanes[0] + lanes[4];
  const double t1 = lanes[1] + lanes[5];
  const double t2 = lanes[2] + lanes[6];
  const double t3 = lanes[3] + lanes[7];
  return (t0 + t2) + (t1 + t3);
}

ResidualSums encode(const unsigned char* row, const unsigned char* centre, std::size_t padded,
                    std::uint8_t* code) {
  double square[kLanes] = {}, length[kLanes] = {}, sign_dot[kLanes] = {}, dot[kLanes] = {},
         row_square[kLanes] = {};
  for (std::size_t start = 0; start < padded; start += kLanes) {
    float x[kLanes], c[kLanes];
    memcpy(x, row + start * sizeof(float), sizeof(x));
    memcpy(c, centre + start * sizeof(float), sizeof(c));
    unsigned bits = 0;
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float residual = x[lane] - c[lane];
      const bool minus = __builtin_signbit(residual) != 0;
      const double r = residual;
      const double wide_x = x[lane];
      const double wide_c = c[lane];
      square[lane] += r * r;
      length[lane] += __builtin_fabs(r);
      sign_dot[lane] += minus ? -wide_c : wide_c;
      dot[lane] += wide_c * r;
      row_square[lane] += wide_x * wide_x;
      bits |= (minus ? 0U : 1U) << lane;
    }
    code[start / kLanes] = static_cast<std::uint8_t>(bits);
  }
  return {sum_of(square), sum_of(length), sum_of(sign_dot), sum_of(dot), sum_of(row_square)};
}

}  // namespace

const EncodeKernels kEncodeScalar = {encode};

}  // namespace whimbrel
