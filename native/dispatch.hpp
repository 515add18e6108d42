// The variants of the kernels that this processor can run.
#pragma once

#include <span>
#include <string_view>

#include "distance.hpp"
#include "encode.hpp"
#include "fastscan.hpp"
#include "rotate.hpp"

namespace whimbrel {

// One variant: for each operation the fastest code that its instruction set can run.
struct Kernels {
  const char* isa;
  const DistanceKernels& distance;
  const RotateKernels& rotate;
  const EncodeKernels& encode;
  const ScanKernels& scan;
};

// Returns the usable variants, fastest first. `scalar` is always the last of them.
std::span<const Kernels> usable_kernels();

// Returns the variant of that name, or null when it is not usable here.
const Kernels* find_kernels(std::string_view isa);

}  // namespace whimbrel
