// AVX-512 (F, BW, DQ, VL).
#include <immintrin.h>

#include "../../kernels/macros.hpp"
#include "recommend_isa.hpp"

namespace prunus {
namespace recommend {
namespace avx512 {
namespace {

#include "../kernels/body.inl"
#include "avx512.inl"

}  // namespace

extern const RecommendIsa isa;
const RecommendIsa isa = {"avx512",       Vec::lanes, 2,          false,       score_many<Vec>,
                          score_one<Vec>, nullptr,    add_levels, add_nibbles, offer_scores<Vec>};

}  // namespace avx512
}  // namespace recommend
}  // namespace prunus
