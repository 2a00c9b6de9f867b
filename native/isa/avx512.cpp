// AVX-512 (F, BW, DQ, VL). Built with those flags and chosen only where the CPU has them.
#include <immintrin.h>

#include "../kernels/macros.hpp"
#include "isa.hpp"

namespace prunus {
namespace avx512 {
namespace {

#include "avx512.inl"

}  // namespace

extern const Isa isa;
const Isa isa = {"avx512", Vec::lanes, true, int8_halves, largest_tile, score};

}  // namespace avx512
}  // namespace prunus
