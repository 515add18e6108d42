// Nine significant digits of every float32, cut at trailing zeros.
//
// That reads back exactly. Digits found by one multiplication in double are within half a unit of
// the ninth, 5e-9 of the value, and two roundings in double, 3e-16; halfway to the next float32 is
// at least 2^-25 = 3e-8 away. The same margin makes it safe to read the text as float64 first and
// round that to float32, as JSON parsers do, where the shortest text (7.038531e-26, for one) would
// come out as the neighbour. So no exact arithmetic is needed, nor a standard library that has
// std::to_chars for floating point, which that of macOS 12 lacks.
#include "float_text.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>

namespace whimbrel {
namespace {

constexpr int kDigits = 9;
constexpr std::uint32_t kLeast = 100'000'000;     // of nine digits
constexpr std::uint32_t kBeyond = 1'000'000'000;  // nine digits cannot hold it
// "-1.23456789e-45" and a comma.
constexpr std::size_t kCharsMax = 16;
// Between these powers of ten plain notation is no longer than one with an exponent.
constexpr int kPlainLeast = -4;
constexpr int kPlainMost = 8;
// Scales of the largest and the smallest float32, whose powers of ten are 38 and -45.
constexpr int kScaleLeast = kDigits - 1 - 38;
constexpr int kScaleMost = kDigits - 1 + 45;

// 10 to the powers kScaleLeast to kScaleMost, each rounded once.
constexpr std::array<double, kScaleMost - kScaleLeast + 1> kPowers = {
    1e-30, 1e-29, 1e-28, 1e-27, 1e-26, 1e-25, 1e-24, 1e-23, 1e-22, 1e-21, 1e-20, 1e-19,
    1e-18, 1e-17, 1e-16, 1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9,  1e-8,  1e-7,
    1e-6,  1e-5,  1e-4,  1e-3,  1e-2,  1e-1,  1e0,   1e1,   1e2,   1e3,   1e4,   1e5,
    1e6,   1e7,   1e8,   1e9,   1e10,  1e11,  1e12,  1e13,  1e14,  1e15,  1e16,  1e17,
    1e18,  1e19,  1e20,  1e21,  1e22,  1e23,  1e24,  1e25,  1e26,  1e27,  1e28,  1e29,
    1e30,  1e31,  1e32,  1e33,  1e34,  1e35,  1e36,  1e37,  1e38,  1e39,  1e40,  1e41,
    1e42,  1e43,  1e44,  1e45,  1e46,  1e47,  1e48,  1e49,  1e50,  1e51,  1e52,  1e53};

double power_of_ten(int exponent) {
  return kPowers[static_cast<std::size_t>(exponent - kScaleLeast)];
}

// The value is digits * 10^(exponent - 8), digits from 10^8 to 10^9 - 1.
struct Decimal {
  std::uint32_t digits;
  int exponent;
};

// Of a positive, finite value.
Decimal decimal_of(double value) {
  // floor(log10(value)), or one off, from the binary exponent: 1233 / 4096 is about log10(2).
  const int binary = static_cast<int>(std::bit_cast<std::uint64_t>(value) >> 52) - 1023;
  int exponent = (binary * 1233) >> 12;
  double scaled = value * power_of_ten(kDigits - 1 - exponent);
  if (scaled >= kBeyond || scaled < kLeast) {
    exponent += scaled < kLeast ? -1 : 1;
    scaled = value * power_of_ten(kDigits - 1 - exponent);
  }
  std::uint32_t digits = static_cast<std::uint32_t>(scaled + 0.5);
  if (digits >= kBeyond) {
    digits = kLeast;
    ++exponent;
  }
  return {digits, exponent};
}

constexpr char kPairs[] =
    "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546"
    "4748495051525354555657585960616263646566676869707172737475767778798081828384858687888990919293"
    "949596979899";

// Writes all nine digits.
void write_digits(std::uint32_t digits, char* out) {
  for (int at = kDigits - 2; at > 0; at -= 2) {
    std::memcpy(out + at, kPairs + 2 * (digits % 100), 2);
    digits /= 100;
  }
  *out = static_cast<char>('0' + digits);
}

char* write_text(std::string_view text, char* out) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

// Steps back over zeros that say nothing, none of which is the first digit.
char* without_zeros(char* end) {
  while (end[-1] == '0') --end;
  return end;
}

// 0.000123456789: what components of embeddings are like, so it goes where it belongs at once.
char* write_fraction(std::uint32_t digits, int exponent, char* out) {
  std::memcpy(out, "0.000", 5);
  out += 1 - exponent;
  write_digits(digits, out);
  return without_zeros(out + kDigits);
}

// 12.3456789, and 120 where the digits behind are zeros.
char* write_plain(const char* digits, int count, int exponent, char* out) {
  const int whole = exponent + 1;
  for (int i = 0; i < whole; ++i) *out++ = i < count ? digits[i] : '0';
  if (count <= whole) return out;
  *out++ = '.';
  return write_text({digits + whole, static_cast<std::size_t>(count - whole)}, out);
}

char* write_scientific(const char* digits, int count, int exponent, char* out) {
  *out++ = digits[0];
  if (count > 1) {
    *out++ = '.';
    out = write_text({digits + 1, static_cast<std::size_t>(count - 1)}, out);
  }
  *out++ = 'e';
  if (exponent < 0) {
    *out++ = '-';
    exponent = -exponent;
  }
  if (exponent >= 10) *out++ = static_cast<char>('0' + exponent / 10);
  *out++ = static_cast<char>('0' + exponent % 10);
  return out;
}

char* write_number(float value, char* out) {
  if (!std::isfinite(value)) {
    if (std::isnan(value)) return write_text("\"NaN\"", out);
    return write_text(value > 0 ? "\"Infinity\"" : "\"-Infinity\"", out);
  }
  if (std::signbit(value)) *out++ = '-';
  // With a point, since parsers that have integers know no negative zero among them.
  if (value == 0.0f) return write_text("0.0", out);
  const Decimal decimal = decimal_of(std::fabs(static_cast<double>(value)));
  const int exponent = decimal.exponent;
  if (exponent >= kPlainLeast && exponent < 0) return write_fraction(decimal.digits, exponent, out);
  char digits[kDigits];
  write_digits(decimal.digits, digits);
  const int count = static_cast<int>(without_zeros(digits + kDigits) - digits);
  if (exponent >= 0 && exponent <= kPlainMost) return write_plain(digits, count, exponent, out);
  return write_scientific(digits, count, exponent, out);
}

}  // namespace

FloatText write_vectors(std::span<const float> values, std::span<const std::int64_t> bounds) {
  FloatText written;
  const std::size_t vector_count = bounds.size() - 1;
  written.offsets.reserve(bounds.size());
  written.offsets.push_back(0);
  // Room for the longest text of every number, and the brackets.
  written.text.resize(values.size() * kCharsMax + 2 * vector_count);
  char* const start = written.text.data();
  char* out = start;
  for (std::size_t i = 0; i < vector_count; ++i) {
    *out++ = '[';
    for (std::int64_t at = bounds[i]; at < bounds[i + 1]; ++at) {
      if (at > bounds[i]) *out++ = ',';
      out = write_number(values[static_cast<std::size_t>(at)], out);
    }
    *out++ = ']';
    written.offsets.push_back(out - start);
  }
  written.text.resize(static_cast<std::size_t>(out - start));
  return written;
}

}  // namespace whimbrel
