// AVX-512 with VNNI, which multiplies bytes. Built with those flags and chosen only where the CPU has them.
#include <immintrin.h>

#include "../kernels/macros.hpp"
#include "isa.hpp"

namespace prunus {
namespace avx512vnni {
namespace {

#include "avx512.inl"

}  // namespace

extern const Isa isa;
const Isa isa = {"avx512vnni", Vec::lanes, true, int8_halves, largest_tile, score};

}  // namespace avx512vnni
}  // namespace prunus
