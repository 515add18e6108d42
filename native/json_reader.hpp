// A strict reader of JSON text (RFC 8259) that goes through a body once and keeps nothing but what
// it is told to.
//
// Beyond the grammar it refuses: text that is not UTF-8, escapes of lone surrogates, a name twice
// in one object (compared after unescaping), and more than 64 containers inside each other. So its
// recursion is bounded, and no step looks back: time is O(n log n), memory O(n).
//
// When several things are wrong, one is reported: the first encoding error of the body, else
// excessive depth, else the first syntax error, else the first lone surrogate, duplicate name or
// type error, in this order. So grammar errors end the reading (a function returns false), while
// the later ones are noted and reading goes on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace whimbrel {

enum class JsonError { kNone, kEncoding, kDepth, kSyntax, kSurrogate, kDuplicate, kType };

struct JsonFailure {
  JsonError kind = JsonError::kNone;
  std::string path;        // JSON pointer, for type errors
  std::size_t offset = 0;  // byte of the body
};

// A string between its quotes, as it came in.
struct JsonString {
  std::string_view raw;
  bool has_escapes = false;
};

class JsonReader {
 public:
  static constexpr int kDepthMax = 64;

  explicit JsonReader(std::string_view body)
      : begin_(body.data()), at_(body.data()), end_(body.data() + body.size()) {}

  // Reads one value that is the whole body, through `value`, a function without arguments.
  template <typename Value>
  bool document(Value&& value);

  // Reads an object or array, which must be next. `member` is called with each name, `element` with
  // each position, when its value is next, and reads that value.
  template <typename Member>
  bool object(Member&& member);
  template <typename Element>
  bool array(Element&& element);

  bool string(JsonString& result);
  // Reads a number, rounded to float64 and then to float32.
  bool number(float& result);
  bool null() { return literal("null"); }
  bool skip_value();

  // The first byte of the next value; 0 at the end of the body.
  char next() const { return at_ < end_ ? *at_ : '\0'; }
  std::size_t offset() const { return static_cast<std::size_t>(at_ - begin_); }
  std::string_view text(std::size_t start) const { return {begin_ + start, offset() - start}; }

  // Appends the string with its escapes resolved.
  static void append_decoded(const JsonString& string, std::string& result);

  // Notes an error that does not end the reading.
  void note(JsonError kind, std::size_t offset, std::string path = {});
  bool noted(JsonError kind) const { return noted_[static_cast<std::size_t>(kind)].kind == kind; }

  // The error to report, after `document` returned.
  JsonFailure failure() const;

 private:
  bool fail(JsonError kind);
  bool enter();
  void skip_space();
  bool literal(std::string_view word);
  bool escape();
  bool skip_number();
  bool name(std::string_view& result);
  bool closes(char closing, bool& done);
  void check_names(std::size_t mark);
  bool valid_encoding();
  bool too_deep() const;

  const char* begin_;
  const char* at_;
  const char* end_;
  int depth_ = 0;
  JsonFailure noted_[7];
  std::vector<std::string_view> names_;  // of all open objects, innermost last
  std::deque<std::string> decoded_;      // names that had escapes
};

inline void JsonReader::skip_space() {
  while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
}

template <typename Value>
bool JsonReader::document(Value&& value) {
  if (!valid_encoding()) return false;
  skip_space();
  bool whole = value();
  if (whole) {
    skip_space();
    whole = at_ == end_ || fail(JsonError::kSyntax);
  }
  return whole;
}

template <typename Member>
bool JsonReader::object(Member&& member) {
  if (!enter()) return false;
  const std::size_t mark = names_.size();
  bool done = next() == '}';
  if (done) ++at_;
  while (!done) {
    std::string_view key;
    if (!name(key)) return false;
    if (!noted(JsonError::kDuplicate)) names_.push_back(key);
    if (!member(key) || !closes('}', done)) return false;
  }
  check_names(mark);
  --depth_;
  return true;
}

template <typename Element>
bool JsonReader::array(Element&& element) {
  if (!enter()) return false;
  bool done = next() == ']';
  if (done) ++at_;
  for (std::size_t position = 0; !done; ++position) {
    if (!element(position) || !closes(']', done)) return false;
  }
  --depth_;
  return true;
}

// Steps over what follows a value in a container: a comma, or the closing bracket.
inline bool JsonReader::closes(char closing, bool& done) {
  skip_space();
  if (at_ == end_ || (*at_ != ',' && *at_ != closing)) return fail(JsonError::kSyntax);
  done = *at_++ == closing;
  skip_space();
  return true;
}

}  // namespace whimbrel
