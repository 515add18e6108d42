// The variants of the kernels that this processor can run.
#pragma once

#include <span>
#include <string_view>

#include "distance.hpp"

namespace whimbrel {

// Returns the usable variants, fastest first. `scalar` is always the last of them.
std::span<const DistanceKernels* const> usable_kernels();

// Returns the variant of that name, or null when it is not usable here.
const DistanceKernels* find_kernels(std::string_view isa);

}  // namespace whimbrel
