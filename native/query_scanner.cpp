#include "query_scanner.hpp"

#include <utility>

#include "json_reader.hpp"

namespace whimbrel {
namespace {

class QueryScanner {
 public:
  explicit QueryScanner(std::string_view body) : reader_(body) {}

  ScannedQuery run() {
    const bool whole = reader_.document([this] { return read_body(); });
    query_.plain = whole && is_plain_ && vector_count_ == 1 && value_lists_ == 1 &&
                   reader_.failure().kind == JsonError::kNone;
    return std::move(query_);
  }

 private:
  bool read_body() {
    if (reader_.next() != '{') return false;
    return reader_.object([this](std::string_view name) { return read_member(name); });
  }

  bool read_member(std::string_view name) {
    if (name == "queryVector") return read_vector();
    const std::size_t start = reader_.offset();
    if (!reader_.skip_value()) return false;
    query_.members.push_back({std::string(name), reader_.text(start)});
    return true;
  }

  bool read_vector() {
    ++vector_count_;
    if (reader_.next() != '{') return false;
    return reader_.object([this](std::string_view name) {
      is_plain_ = is_plain_ && name == "float32" && reader_.next() == '[';
      return is_plain_ && read_values();
    });
  }

  bool read_values() {
    ++value_lists_;
    return reader_.array([this](std::size_t) {
      float value;
      if (!reader_.number(value)) return false;
      query_.values.push_back(value);
      return true;
    });
  }

  JsonReader reader_;
  ScannedQuery query_;
  bool is_plain_ = true;
  int vector_count_ = 0;
  int value_lists_ = 0;
};

}  // namespace

ScannedQuery scan_query(std::string_view body) { return QueryScanner(body).run(); }

std::string string_of(std::string_view text) {
  JsonReader reader(text);
  JsonString string;
  std::string result;
  if (reader.string(string)) JsonReader::append_decoded(string, result);
  return result;
}

}  // namespace whimbrel
