// Writes float32 vectors as the arrays of numbers that a JSON body holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace whimbrel {

// Array i is text[offsets[i]:offsets[i + 1]].
struct FloatText {
  std::string text;
  std::vector<std::int64_t> offsets;
};

// Vector i is values[bounds[i]:bounds[i + 1]]; bounds ascend from 0 to the number of values.
FloatText write_vectors(std::span<const float> values, std::span<const std::int64_t> bounds);

}  // namespace whimbrel
