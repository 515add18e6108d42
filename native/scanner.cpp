#include "scanner.hpp"

#include <limits>

namespace whimbrel {
namespace {

// Length in UTF-16 code units of valid UTF-8: one for each sequence, two for those of four bytes.
std::int64_t utf16_length(std::string_view text) {
  std::int64_t length = 0;
  for (const char byte : text) {
    const unsigned value = static_cast<unsigned char>(byte);
    length += ((value & 0xC0) != 0x80) + (value >= 0xF0);
  }
  return length;
}

// The numbers that JSON cannot write, as the SDKs spell them.
bool spelled_number(std::string_view text, float& value) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (text == "NaN") {
    value = std::numeric_limits<float>::quiet_NaN();
  } else if (text == "Infinity") {
    value = kInfinity;
  } else if (text == "-Infinity") {
    value = -kInfinity;
  } else {
    return false;
  }
  return true;
}

class PutScanner {
 public:
  PutScanner(std::string_view body, std::size_t record_max)
      : reader_(body), record_max_(record_max) {}

  ScannedPut run() {
    reader_.document([this] { return read_body(); });
    put_.failure = reader_.failure();
    return std::move(put_);
  }

 private:
  // Steps over a value of the wrong type, and notes where it stands. `path` makes the pointer to
  // it.
  template <typename Path>
  bool wrong_type(Path&& path) {
    if (!reader_.noted(JsonError::kType)) reader_.note(JsonError::kType, reader_.offset(), path());
    return reader_.skip_value();
  }

  std::string vector_path(std::string_view rest) const {
    return "/vectors/" + std::to_string(vector_index_) + std::string(rest);
  }

  bool read_body() {
    if (reader_.next() != '{') return wrong_type([] { return std::string(); });
    return reader_.object([this](std::string_view name) { return read_member(name); });
  }

  bool read_member(std::string_view name) {
    if (name == "vectors") return read_vectors();
    const std::size_t start = reader_.offset();
    if (!reader_.skip_value()) return false;
    for (std::size_t i = 0; i < kMemberNames.size(); ++i) {
      if (name == kMemberNames[i]) put_.members[i] = reader_.text(start);
    }
    return true;
  }

  bool read_vectors() {
    if (reader_.next() == 'n') return reader_.null();
    if (reader_.next() != '[') return wrong_type([] { return std::string("/vectors"); });
    put_.vector_count = 0;
    return reader_.array([this](std::size_t index) {
      vector_index_ = index;
      ++put_.vector_count;
      return index < record_max_ ? read_vector() : reader_.skip_value();
    });
  }

  bool read_vector() {
    flags_ = kKeyAbsent | kDataAbsent | kMetadataAbsent;
    if (reader_.next() != '{') {
      if (!wrong_type([this] { return vector_path(""); })) return false;
    } else if (!reader_.object([this](std::string_view name) { return read_part(name); })) {
      return false;
    }
    record();
    return true;
  }

  bool read_part(std::string_view name) {
    if (name == "key") return read_key();
    if (name == "data") return read_data();
    if (name == "metadata") return read_metadata();
    return reader_.skip_value();
  }

  bool read_key() {
    if (reader_.next() == 'n') return reader_.null();
    if (reader_.next() != '"') return wrong_type([this] { return vector_path("/key"); });
    JsonString key;
    if (!reader_.string(key)) return false;
    JsonReader::append_decoded(key, put_.keys);
    clear(kKeyAbsent);
    return true;
  }

  bool read_data() {
    if (reader_.next() == 'n') return reader_.null();
    if (reader_.next() != '{') return wrong_type([this] { return vector_path("/data"); });
    clear(kDataAbsent);
    flags_ |= kFloat32Absent;
    return reader_.object([this](std::string_view name) {
      return name == "float32" ? read_values() : reader_.skip_value();
    });
  }

  bool read_values() {
    if (reader_.next() == 'n') return reader_.null();
    if (reader_.next() != '[') return wrong_type([this] { return vector_path("/data/float32"); });
    clear(kFloat32Absent);
    return reader_.array([this](std::size_t position) {
      float value;
      const char first = reader_.next();
      if (first != '-' && (first < '0' || first > '9')) return read_other_value(position);
      if (!reader_.number(value)) return false;
      put_.values.push_back(value);
      return true;
    });
  }

  bool read_other_value(std::size_t position) {
    const auto path = [this, position] {
      return vector_path("/data/float32/" + std::to_string(position));
    };
    if (reader_.next() != '"') return wrong_type(path);
    const std::size_t start = reader_.offset();
    JsonString string;
    if (!reader_.string(string)) return false;
    spelled_.clear();
    JsonReader::append_decoded(string, spelled_);
    float value;
    if (spelled_number(spelled_, value)) {
      put_.values.push_back(value);
    } else if (!reader_.noted(JsonError::kType)) {
      reader_.note(JsonError::kType, start, path());
    }
    return true;
  }

  bool read_metadata() {
    if (reader_.next() == 'n') return reader_.null();
    if (reader_.next() != '{') return wrong_type([this] { return vector_path("/metadata"); });
    const std::size_t start = reader_.offset();
    if (!reader_.skip_value()) return false;
    put_.metadata.append(reader_.text(start));
    clear(kMetadataAbsent);
    return true;
  }

  void clear(std::uint8_t flag) { flags_ = static_cast<std::uint8_t>(flags_ & ~flag); }

  // Closes the vector that was just read.
  void record() {
    if ((flags_ & kMetadataAbsent) != 0) put_.metadata.append("{}");
    const std::string_view key =
        std::string_view(put_.keys).substr(static_cast<std::size_t>(put_.key_offsets.back()));
    put_.key_lengths_utf16.push_back(utf16_length(key));
    put_.key_offsets.push_back(static_cast<std::int64_t>(put_.keys.size()));
    put_.value_offsets.push_back(static_cast<std::int64_t>(put_.values.size()));
    put_.metadata_offsets.push_back(static_cast<std::int64_t>(put_.metadata.size()));
    put_.flags.push_back(flags_);
  }

  JsonReader reader_;
  std::size_t record_max_;
  ScannedPut put_;
  std::size_t vector_index_ = 0;
  std::uint8_t flags_ = 0;
  std::string spelled_;
};

}  // namespace

ScannedPut scan_put_vectors(std::string_view body, std::size_t record_max) {
  return PutScanner(body, record_max).run();
}

}  // namespace whimbrel
