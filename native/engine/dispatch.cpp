#include "dispatch.hpp"

namespace prunus {
namespace {

std::vector<const Isa*> detect() {
    std::vector<const Isa*> found;
#ifdef PRUNUS_X86
    // These builtins also ask whether the operating system saves the registers (XCR0).
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
        if (__builtin_cpu_supports("avx512vnni")) found.push_back(&avx512vnni::isa);
        found.push_back(&avx512::isa);
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&avx2::isa);
#elif defined(PRUNUS_ARM64)
    found.push_back(&neon::isa);
#endif
    found.push_back(&scalar::isa);
    return found;
}

}  // namespace

const std::vector<const Isa*>& usable_isas() {
    static const std::vector<const Isa*> found = detect();
    return found;
}

const forest::ForestIsa& forest_isa(const Isa& isa) {
#ifdef PRUNUS_X86
    // VNNI has nothing for trees.
    if (&isa == &avx512vnni::isa || &isa == &avx512::isa) return forest::avx512::isa;
    if (&isa == &avx2::isa) return forest::avx2::isa;
#elif defined(PRUNUS_ARM64)
    if (&isa == &neon::isa) return forest::neon::isa;
#endif
    return forest::scalar::isa;
}

bool halves_512() {
#ifdef PRUNUS_X86
    __builtin_cpu_init();
    return __builtin_cpu_is("amdfam19h") && __builtin_cpu_supports("avx512f");
#else
    return false;
#endif
}

}  // namespace prunus
