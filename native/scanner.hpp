// Reads the body of a PutVectors request into arrays: keys and metadata as bytes laid end to end,
// vectors as float32.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "json_reader.hpp"

namespace whimbrel {

// What a vector lacks; null counts as absent. A vector without data has no mark for float32.
inline constexpr std::uint8_t kKeyAbsent = 1;
inline constexpr std::uint8_t kDataAbsent = 2;
inline constexpr std::uint8_t kFloat32Absent = 4;
inline constexpr std::uint8_t kMetadataAbsent = 8;

// Members of the body whose text is kept; an empty text means that the member is absent.
inline constexpr std::array<std::string_view, 3> kMemberNames = {"vectorBucketName", "indexName",
                                                                 "indexArn"};

// Vector i owns keys[key_offsets[i]:key_offsets[i + 1]], and values and metadata likewise. Vectors
// beyond `record_max` are counted, and checked for grammar, but no further.
struct ScannedPut {
  JsonFailure failure;
  std::array<std::string_view, kMemberNames.size()> members;  // views of the body
  std::int64_t vector_count = -1;                             // -1: no vectors, or null
  std::string keys;
  std::vector<std::int64_t> key_offsets = {0};
  std::vector<std::int64_t> key_lengths_utf16;
  std::vector<float> values;
  std::vector<std::int64_t> value_offsets = {0};
  std::string metadata;
  std::vector<std::int64_t> metadata_offsets = {0};
  std::vector<std::uint8_t> flags;
};

ScannedPut scan_put_vectors(std::string_view body, std::size_t record_max);

}  // namespace whimbrel
