#include "json_number.hpp"

#include <locale.h>
#include <stdlib.h>
#if defined(__APPLE__)
#include <xlocale.h>
#endif

#include <bit>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <string>
#include <system_error>

namespace whimbrel {
namespace {

bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

// What the grammar says about a number; the digits as one integer while it fits.
struct Decimal {
  bool negative = false;
  bool fits = true;  // digits and exponent hold the number
  std::uint64_t digits = 0;
  int exponent = 0;  // the value is digits * 10^exponent
};

// Eight digits at once, by three multiplications on bytes, pairs and quads.
// Source: Daniel Lemire, "Quickly parsing eight digits".
bool eight_digits(const char* at, std::uint32_t& value) {
  if constexpr (std::endian::native != std::endian::little) return false;
  std::uint64_t bytes;
  std::memcpy(&bytes, at, sizeof bytes);
  const std::uint64_t upper = bytes & 0xF0F0F0F0F0F0F0F0;
  const std::uint64_t carried = (bytes + 0x0606060606060606) & 0xF0F0F0F0F0F0F0F0;
  if ((upper | (carried >> 4)) != 0x3333333333333333) return false;
  bytes -= 0x3030303030303030;
  bytes = bytes * 10 + (bytes >> 8);
  constexpr std::uint64_t kMask = 0x000000FF000000FF;
  constexpr std::uint64_t kFirst = 0x000F424000000064;   // 100 + (1000000 << 32)
  constexpr std::uint64_t kSecond = 0x0000271000000001;  // 1 + (10000 << 32)
  value = static_cast<std::uint32_t>(
      ((bytes & kMask) * kFirst + ((bytes >> 16) & kMask) * kSecond) >> 32);
  return true;
}

// Reads digits into `digits`, which wraps around when there are too many; returns where they end.
const char* read_digits(const char* at, const char* end, std::uint64_t& digits) {
  std::uint32_t eight;
  while (end - at >= 8 && eight_digits(at, eight)) {
    digits = digits * 100'000'000 + eight;
    at += 8;
  }
  for (; at < end && is_digit(*at); ++at) digits = digits * 10 + static_cast<unsigned>(*at - '0');
  return at;
}

// Whether the digits from `at` to `end`, apart from zeros in front, are at most 19: then they fit
// 64 bits.
bool digits_fit(const char* at, const char* end) {
  while (at < end && (*at == '0' || *at == '.')) ++at;
  const auto count = end - at;
  return count <= 19 || (count == 20 && std::memchr(at, '.', 20) != nullptr);
}

bool read_exponent(const char*& at, const char* end, Decimal& decimal) {
  ++at;
  bool negative = false;
  if (at < end && (*at == '+' || *at == '-')) negative = *at++ == '-';
  if (at == end || !is_digit(*at)) return false;
  int exponent = 0;
  for (; at < end && is_digit(*at); ++at) {
    if (exponent < 100'000) exponent = exponent * 10 + (*at - '0');
  }
  decimal.exponent += negative ? -exponent : exponent;
  return true;
}

bool read_decimal(const char*& at, const char* end, Decimal& decimal) {
  if (at < end && *at == '-') {
    decimal.negative = true;
    ++at;
  }
  if (at == end || !is_digit(*at)) return false;
  const char* const first = at;
  at = *at == '0' ? at + 1 : read_digits(at, end, decimal.digits);
  std::ptrdiff_t fraction_digits = 0;
  if (at < end && *at == '.') {
    const char* const fraction = ++at;
    at = read_digits(at, end, decimal.digits);
    fraction_digits = at - fraction;
    if (fraction_digits == 0) return false;
  }
  if (at - first > 19) decimal.fits = digits_fit(first, at);
  if (fraction_digits < 100) {
    decimal.exponent = -static_cast<int>(fraction_digits);
  } else {
    decimal.fits = false;
  }
  return at == end || (*at != 'e' && *at != 'E') || read_exponent(at, end, decimal);
}

// Powers of ten as the nearest float64; exact up to 10^22.
constexpr double kPowers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10,
                              1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21,
                              1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31, 1e32,
                              1e33, 1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40};
constexpr int kPowerMax = static_cast<int>(std::size(kPowers)) - 1;

float narrow(double value) {
  constexpr double kTooLarge = 0x1.ffffffp127;  // nearer to 2^128 than to FLT_MAX
  if (value >= kTooLarge) return std::numeric_limits<float>::infinity();
  return static_cast<float>(value);
}

// Computes the value by one multiplication or division. It is off by at most three units of float64
// (rounding of the digits, of the power, of the result), so where it lies farther than that from
// the middle between two float32 numbers, it rounds to the same float32 as the exact value and as
// the nearest float64. Returns false elsewhere.
bool quick_float(const Decimal& decimal, float& result) {
  if (!decimal.fits || decimal.exponent < -kPowerMax || decimal.exponent > kPowerMax) return false;
  if (decimal.digits == 0) {
    result = 0.0F;
    return true;
  }
  double value = static_cast<double>(decimal.digits);
  if (decimal.exponent < 0) {
    value /= kPowers[-decimal.exponent];
  } else {
    value *= kPowers[decimal.exponent];
  }
  if (value < 0x1p-126) return false;              // subnormal float32 numbers have other middles
  constexpr std::uint64_t kRest = (1U << 29) - 1;  // bits that float32 has not
  constexpr std::uint64_t kMiddle = 1U << 28;
  const std::uint64_t rest = std::bit_cast<std::uint64_t>(value) & kRest;
  if (rest - (kMiddle - 8) <= 16) return false;
  result = narrow(value);
  return true;
}

// The C library's conversion, in the C locale whatever the program has set.
double nearest_double_by_strtod(const char* first, const char* last) {
  static const locale_t c_locale = newlocale(LC_ALL_MASK, "C", static_cast<locale_t>(nullptr));
  return strtod_l(std::string(first, last).c_str(), nullptr, c_locale);
}

// std::from_chars is several times faster, but leaves out-of-range values alone and caps huge
// exponents.
double nearest_double(const char* first, const char* last) {
#if defined(__cpp_lib_to_chars)
  constexpr std::ptrdiff_t kLengthMax = 512;
  double value = 0.0;
  if (last - first <= kLengthMax && std::from_chars(first, last, value).ec == std::errc()) {
    return value;
  }
#endif
  return nearest_double_by_strtod(first, last);
}

}  // namespace

bool read_number(const char*& at, const char* end, float& result) {
  const char* first = at;
  Decimal decimal;
  if (!read_decimal(at, end, decimal)) return false;
  if (decimal.negative) ++first;
  if (!quick_float(decimal, result)) result = narrow(nearest_double(first, at));
  if (decimal.negative) result = -result;
  return true;
}

bool skip_number(const char*& at, const char* end) {
  Decimal decimal;
  return read_decimal(at, end, decimal);
}

}  // namespace whimbrel
