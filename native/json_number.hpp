// Numbers of JSON, as float32 values rounded from the nearest float64.
#pragma once

namespace whimbrel {

// Reads the number that starts at `at` and moves `at` behind it. Returns false, and leaves `at` at
// the offending byte, when there is no number. What is too large becomes infinity.
bool read_number(const char*& at, const char* end, float& result);

// Only checks the grammar.
bool skip_number(const char*& at, const char* end);

}  // namespace whimbrel
