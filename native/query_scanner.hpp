// Reads the body of a QueryVectors request: its vector as float32, every other member as text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace whimbrel {

// Views are of the body that was read.
struct ScannedQuery {
  // A member beside the vector: its name without escapes, and its value as it stands in the body.
  struct Member {
    std::string name;
    std::string_view text;
  };

  // Whether the body is valid JSON, an object, with a `queryVector` that is an object of nothing
  // but `float32`, an array of numbers. Any other body is left to those who can say what is wrong.
  bool plain = false;
  std::vector<float> values;
  std::vector<Member> members;
};

ScannedQuery scan_query(std::string_view body);

// Resolves the escapes of a JSON string that was read as a member's text, quotes included.
std::string string_of(std::string_view text);

}  // namespace whimbrel
