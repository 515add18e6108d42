#include "dispatch.hpp"

#include <vector>

namespace whimbrel {

std::span<const DistanceKernels* const> usable_kernels() {
  static const std::vector<const DistanceKernels*> usable = [] {
    std::vector<const DistanceKernels*> found;
#if defined(WHIMBREL_AVX2)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      found.push_back(&kDistanceAvx2);
    }
#endif
    found.push_back(&kDistanceScalar);
    return found;
  }();
  return usable;
}

const DistanceKernels* find_kernels(std::string_view isa) {
  for (const DistanceKernels* kernels : usable_kernels()) {
    if (isa == kernels->isa) return kernels;
  }
  return nullptr;
}

}  // namespace whimbrel
