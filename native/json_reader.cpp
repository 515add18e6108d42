#include "json_reader.hpp"

#include <algorithm>
#include <cstring>

#include "json_number.hpp"

namespace whimbrel {
namespace {

constexpr std::uint64_t kOnes = 0x0101010101010101;
constexpr std::uint64_t kHighs = 0x8080808080808080;

std::uint64_t eight_bytes(const char* at) {
  std::uint64_t bytes;
  std::memcpy(&bytes, at, sizeof bytes);
  return bytes;
}

// Whether one of eight bytes is a quote, a backslash or a control character, or may be (the sign
// that borrows leave behind can be wrong, but only above a byte where it is right).
bool has_special(std::uint64_t bytes) {
  const std::uint64_t quote = bytes ^ (kOnes * '"');
  const std::uint64_t backslash = bytes ^ (kOnes * '\\');
  const std::uint64_t low = (bytes - kOnes * 0x20) & ~bytes;
  return (((quote - kOnes) & ~quote) | ((backslash - kOnes) & ~backslash) | low) & kHighs;
}

unsigned byte_at(const char* at) { return static_cast<unsigned char>(*at); }

// Length of the UTF-8 sequence at `at`, 0 when it is not a valid one (RFC 3629: shortest form, no
// surrogates, at most U+10FFFF).
std::ptrdiff_t sequence_length(const char* at, const char* end) {
  const unsigned lead = byte_at(at);
  if (lead < 0x80) return 1;
  std::ptrdiff_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (lead < 0xC2 || lead > 0xF4 || end - at < length) return 0;
  unsigned lowest = 0x80, highest = 0xBF;
  if (lead == 0xE0) lowest = 0xA0;
  if (lead == 0xED) highest = 0x9F;
  if (lead == 0xF0) lowest = 0x90;
  if (lead == 0xF4) highest = 0x8F;
  if (byte_at(at + 1) < lowest || byte_at(at + 1) > highest) return 0;
  for (std::ptrdiff_t i = 2; i < length; ++i) {
    if ((byte_at(at + i) & 0xC0) != 0x80) return 0;
  }
  return length;
}

int hex_digit(char byte) {
  if (byte >= '0' && byte <= '9') return byte - '0';
  if (byte >= 'a' && byte <= 'f') return byte - 'a' + 10;
  if (byte >= 'A' && byte <= 'F') return byte - 'A' + 10;
  return -1;
}

// The code unit of the four digits at `at`, -1 when they are not four hexadecimal digits.
int code_unit(const char* at, const char* end) {
  if (end - at < 4) return -1;
  int unit = 0;
  for (int i = 0; i < 4; ++i) {
    const int digit = hex_digit(at[i]);
    if (digit < 0) return -1;
    unit = unit * 16 + digit;
  }
  return unit;
}

bool is_high_surrogate(int unit) { return unit >= 0xD800 && unit <= 0xDBFF; }
bool is_low_surrogate(int unit) { return unit >= 0xDC00 && unit <= 0xDFFF; }

// Whether the escape of a low surrogate stands at `at`.
bool low_surrogate_follows(const char* at, const char* end) {
  return end - at >= 6 && at[0] == '\\' && at[1] == 'u' && is_low_surrogate(code_unit(at + 2, end));
}

void append_utf8(int code_point, std::string& result) {
  const auto append = [&result](int byte) { result.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    append(code_point);
    return;
  }
  if (code_point < 0x800) {
    append(0xC0 | (code_point >> 6));
  } else {
    if (code_point < 0x10000) {
      append(0xE0 | (code_point >> 12));
    } else {
      append(0xF0 | (code_point >> 18));
      append(0x80 | ((code_point >> 12) & 0x3F));
    }
    append(0x80 | ((code_point >> 6) & 0x3F));
  }
  append(0x80 | (code_point & 0x3F));
}

// Appends what the escape at `at` stands for (the reader has checked it) and returns where it ends.
const char* append_escape(const char* at, const char* end, std::string& result) {
  constexpr std::string_view kLetters = "bfnrt";
  constexpr std::string_view kMeanings = "\b\f\n\r\t";
  if (at[1] != 'u') {
    const std::size_t letter = kLetters.find(at[1]);
    result.push_back(letter == std::string_view::npos ? at[1] : kMeanings[letter]);
    return at + 2;
  }
  int code_point = code_unit(at + 2, end);
  at += 6;
  if (is_high_surrogate(code_point) && low_surrogate_follows(at, end)) {
    code_point = 0x10000 + ((code_point - 0xD800) << 10) + (code_unit(at + 2, end) - 0xDC00);
    at += 6;
  }
  append_utf8(code_point, result);
  return at;
}

}  // namespace

bool JsonReader::fail(JsonError kind) {
  note(kind, offset());
  return false;
}

void JsonReader::note(JsonError kind, std::size_t offset, std::string path) {
  if (noted(kind)) return;
  noted_[static_cast<std::size_t>(kind)] = {kind, std::move(path), offset};
}

JsonFailure JsonReader::failure() const {
  // A body with a syntax error may nest too deeply only behind it.
  if (noted(JsonError::kSyntax) && too_deep()) return {JsonError::kDepth, {}, 0};
  for (const JsonFailure& failure : noted_) {
    if (failure.kind != JsonError::kNone) return failure;
  }
  return {};
}

bool JsonReader::valid_encoding() {
  for (const char* at = begin_; at < end_;) {
    if (end_ - at >= 8 && (eight_bytes(at) & kHighs) == 0) {
      at += 8;
      continue;
    }
    const std::ptrdiff_t length = sequence_length(at, end_);
    if (length == 0) {
      note(JsonError::kEncoding, static_cast<std::size_t>(at - begin_));
      return false;
    }
    at += length;
  }
  return true;
}

// Counts brackets outside strings, whatever else is wrong. A backslash hides a quote or backslash
// behind it.
bool JsonReader::too_deep() const {
  bool inside = false;
  std::ptrdiff_t depth = 0;
  for (const char* at = begin_; at < end_; ++at) {
    if (*at == '\\') {
      if (at + 1 < end_ && (at[1] == '\\' || at[1] == '"')) ++at;
    } else if (*at == '"') {
      inside = !inside;
    } else if (!inside && (*at == '[' || *at == '{')) {
      if (++depth > kDepthMax) return true;
    } else if (!inside && (*at == ']' || *at == '}')) {
      --depth;
    }
  }
  return false;
}

// Steps into the container whose opening bracket is next.
bool JsonReader::enter() {
  if (depth_ == kDepthMax) return fail(JsonError::kDepth);
  ++depth_;
  ++at_;
  skip_space();
  return true;
}

bool JsonReader::literal(std::string_view word) {
  if (static_cast<std::size_t>(end_ - at_) < word.size() ||
      std::memcmp(at_, word.data(), word.size()) != 0) {
    return fail(JsonError::kSyntax);
  }
  at_ += word.size();
  return true;
}

// Reads the name of a member and the colon behind it.
bool JsonReader::name(std::string_view& result) {
  JsonString string;
  if (!this->string(string)) return false;
  result = string.raw;
  if (string.has_escapes) {
    append_decoded(string, decoded_.emplace_back());
    result = decoded_.back();
  }
  skip_space();
  if (next() != ':') return fail(JsonError::kSyntax);
  ++at_;
  skip_space();
  return true;
}

// Looks for a name that occurs twice among those from `mark` on, and forgets them. Sorting by
// content keeps hostile names from costing more than n log n.
void JsonReader::check_names(std::size_t mark) {
  const auto first = names_.begin() + static_cast<std::ptrdiff_t>(std::min(mark, names_.size()));
  std::sort(first, names_.end());
  if (std::adjacent_find(first, names_.end()) != names_.end()) {
    note(JsonError::kDuplicate, offset());
    names_.clear();
    return;
  }
  names_.erase(first, names_.end());
}

bool JsonReader::string(JsonString& result) {
  if (next() != '"') return fail(JsonError::kSyntax);
  const char* const first = ++at_;
  result.has_escapes = false;
  while (true) {
    while (end_ - at_ >= 8 && !has_special(eight_bytes(at_))) at_ += 8;
    while (at_ < end_ && *at_ != '"' && *at_ != '\\' && byte_at(at_) >= 0x20) ++at_;
    if (at_ == end_ || byte_at(at_) < 0x20) return fail(JsonError::kSyntax);
    if (*at_ == '"') break;
    result.has_escapes = true;
    if (!escape()) return false;
  }
  result.raw = {first, static_cast<std::size_t>(at_ - first)};
  ++at_;
  return true;
}

// Steps over the escape whose backslash is next.
bool JsonReader::escape() {
  constexpr std::string_view kSimple = "\"\\/bfnrt";
  if (end_ - at_ < 2) return fail(JsonError::kSyntax);
  if (at_[1] != 'u') {
    if (kSimple.find(at_[1]) == std::string_view::npos) return fail(JsonError::kSyntax);
    at_ += 2;
    return true;
  }
  const int unit = code_unit(at_ + 2, end_);
  if (unit < 0) return fail(JsonError::kSyntax);
  const bool pair = is_high_surrogate(unit) && low_surrogate_follows(at_ + 6, end_);
  if (!pair && unit >= 0xD800 && unit <= 0xDFFF) note(JsonError::kSurrogate, offset());
  at_ += pair ? 12 : 6;
  return true;
}

void JsonReader::append_decoded(const JsonString& string, std::string& result) {
  if (!string.has_escapes) {
    result.append(string.raw);
    return;
  }
  const char* at = string.raw.data();
  const char* const end = at + string.raw.size();
  while (at < end) {
    if (*at == '\\') {
      at = append_escape(at, end, result);
    } else {
      result.push_back(*at++);
    }
  }
}

bool JsonReader::number(float& result) {
  return read_number(at_, end_, result) || fail(JsonError::kSyntax);
}

bool JsonReader::skip_number() {
  return whimbrel::skip_number(at_, end_) || fail(JsonError::kSyntax);
}

bool JsonReader::skip_value() {
  JsonString ignored;
  switch (next()) {
    case '{':
      return object([this](std::string_view) { return skip_value(); });
    case '[':
      return array([this](std::size_t) { return skip_value(); });
    case '"':
      return string(ignored);
    case 't':
      return literal("true");
    case 'f':
      return literal("false");
    case 'n':
      return literal("null");
    default:
      return skip_number();
  }
}

}  // namespace whimbrel
