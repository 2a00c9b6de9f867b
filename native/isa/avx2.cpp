// AVX2 and FMA: 8 documents in a vector. Built with those flags and chosen only where the CPU has them.
#include <immintrin.h>

#include "../kernels/macros.hpp"
#include "isa.hpp"

namespace prunus {
namespace avx2 {
namespace {

#include "x86_int8.inl"

// Bit patterns of floats that `split` works with: 2/3 begins the interval of 1 + f, and 2 starts the power 2^(1-e).
constexpr int two_thirds = 0x3f2aaaab, two = 0x40000000, exponent_mask = static_cast<int>(0xff800000u);

#include "x86_eight.inl"
using Vec = Eight;

#include "../kernels/body.inl"
#include "x86_quad.inl"

bool score_rest(const Packed& net, const float* X, uint32_t documents, float* out, float* scratch) {
    return documents <= Vec::lanes ? score_few(net, X, documents, out, scratch)
                                   : score_vectors<Vec>(net, X, documents, out, scratch);
}

bool score(const Packed& net, const float* X, size_t n, float* out, float* scratch) noexcept {
    return score_batch<Vec, score_rest>(net, X, n, out, scratch);
}

}  // namespace

// Four vectors were faster than two up to the widest tried, 1600 rows of 128 bytes (by 5 to 19 %, on Zen 4).
constexpr size_t largest_tile = SIZE_MAX;

extern const Isa isa;
const Isa isa = {"avx2", Vec::lanes, true, int8_halves, largest_tile, score};

}  // namespace avx2
}  // namespace prunus
