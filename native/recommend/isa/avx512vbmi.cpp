// AVX-512 with VNNI and VBMI: one user's profile stands in tables of bytes, 64 of which are looked up by an instruction
// and multiplied by another.
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>

#include "../../kernels/macros.hpp"
#include "recommend_isa.hpp"

namespace prunus {
namespace recommend {
namespace avx512vbmi {
namespace {

#include "../kernels/body.inl"
#include "avx512.inl"

// Largest magnitude in units: below 2^23, so that rounding in its product with the inverse of a unit cannot reach that.
constexpr float most_units = 8388600.0f;

// The largest magnitude of a profile; 0 where that is not finite or too small to have an inverse.
float largest_of(const float* profile, uint32_t factors) {
    Vec::Reg most = Vec::splat(0.0f);
    bool finite = true;
    for (uint32_t i = 0; i < factors; i += Vec::lanes) {
        const __m512 size = _mm512_abs_ps(Vec::load(profile + i));
        finite &= _mm512_cmp_ps_mask(size, Vec::splat(3.0e38f), _CMP_LT_OQ) == 0xffff;
        most = _mm512_max_ps(most, size);
    }
    const float largest = _mm512_reduce_max_ps(most);
    return finite && largest > 1.0e-30f ? largest : 0.0f;
}

// The numbers of a profile as u = round(p / unit) + 2^23, an unsigned number of 24 bits whose bytes go to three tables
// for each block: [blocks][3][128]. Returns the unit, or 0 where the profile is 0 or not finite.
float fill_tables(const float* profile, uint32_t factors, char* tables) {
    const float largest = largest_of(profile, factors), unit = largest / most_units;
    if (largest == 0.0f) return 0.0f;
    const Vec::Reg per_unit = Vec::splat(most_units / largest);
    for (uint32_t first = 0; first < factors; first += block) {
        char* table = tables + static_cast<size_t>(first) * byte_planes;
        PRUNUS_UNROLL
        for (uint32_t i = 0; i < block; i += Vec::lanes) {
            const __m512i u =
                _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(Vec::load(profile + first + i), per_unit)),
                                 _mm512_set1_epi32(1 << 23));
            for (uint32_t plane = 0; plane < byte_planes; ++plane)
                _mm_store_si128(reinterpret_cast<__m128i*>(table + plane * block + i),
                                _mm512_cvtepi32_epi8(_mm512_srli_epi32(u, 8 * plane)));
        }
    }
    return unit;
}

PRUNUS_INLINE __m512i table_of(const char* p) {
    return _mm512_load_si512(p);
}

PRUNUS_INLINE Vec::Reg number_of(__m512i low, __m512i mid, __m512i high) {
    return Vec::fma(_mm512_cvtepi32_ps(high), Vec::splat(65536.0f),
                    Vec::fma(_mm512_cvtepi32_ps(mid), Vec::splat(256.0f), _mm512_cvtepi32_ps(low)));
}

// s = step unit (sum of levels u - 2^23 sum of levels) + bias: three sums of bytes, the highest of which starts at
// minus 128 times the sum of levels.
void score_quads(const PackedFactors& model, const float* profile, char* tables, float* scores) noexcept {
    const Quads& quads = model.quads;
    if (quads.blocks == 0) return score_one<Vec>(model, profile, tables, scores);
    const float unit = fill_tables(profile, model.factors, tables);
    if (unit == 0.0f) return score_one<Vec>(model, profile, tables, scores);
    const char* stream = quads.stream;
    const uint32_t* steps = quads.steps;
    for (uint32_t first = 0; first < model.items; first += group) {
        __m512i low = _mm512_setzero_si512(), mid = low, high = _mm512_load_si512(quads.level_sum + first);
        const char* table = tables;
        for (uint32_t b = 0; b < quads.blocks; ++b, table += block * byte_planes) {
            const __m512i low_0 = table_of(table), low_1 = table_of(table + 64);
            const __m512i mid_0 = table_of(table + 128), mid_1 = table_of(table + 192);
            const __m512i high_0 = table_of(table + 256), high_1 = table_of(table + 320);
            for (const char* end = stream + 128 * static_cast<size_t>(*steps++); stream != end; stream += 128) {
                const __m512i at = _mm512_load_si512(stream), levels = _mm512_load_si512(stream + 64);
                low = _mm512_dpbusd_epi32(low, _mm512_permutex2var_epi8(low_0, at, low_1), levels);
                mid = _mm512_dpbusd_epi32(mid, _mm512_permutex2var_epi8(mid_0, at, mid_1), levels);
                high = _mm512_dpbusd_epi32(high, _mm512_permutex2var_epi8(high_0, at, high_1), levels);
            }
        }
        const Vec::Reg step = _mm512_mul_ps(Vec::load(quads.step + first), Vec::splat(unit));
        _mm512_store_ps(scores + first, Vec::fma(number_of(low, mid, high), step, Vec::load(model.bias + first)));
    }
}

// The same in one plane: round(p / unit) + 128, for scores that are off by at most `reach` units.
float fill_table(const float* profile, uint32_t factors, char* table) {
    const float largest = largest_of(profile, factors);
    if (largest == 0.0f) return 0.0f;
    const Vec::Reg per_unit = Vec::splat(126.9f / largest);
    for (uint32_t i = 0; i < (factors + block - 1) / block * block; i += Vec::lanes) {
        const __m512i u = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(Vec::load(profile + i), per_unit)),
                                           _mm512_set1_epi32(128));
        _mm_store_si128(reinterpret_cast<__m128i*>(table + i), _mm512_cvtepi32_epi8(u));
    }
    return largest / 126.9f;
}

// From levels of every factor where there are some: 512 of those are eight cache lines, or four, and no gathers. Of
// four bits they are multiplied by the profile's number in three planes, as in `score_quads`.
PRUNUS_INLINE float score_exactly(const PackedFactors& model, const User& user, float unit, uint32_t place) {
    const Quads& quads = model.quads;
    const size_t row = static_cast<size_t>(model.item_at[place]) * quads.stride;
    Vec::Reg sum = Vec::splat(0.0f);
    if (quads.level_nibbles != nullptr) {
        const char* table = user.tables;
        const __m512i nibble = _mm512_set1_epi8(15), eight = _mm512_set1_epi8(8);
        __m512i low = _mm512_setzero_si512(), mid = low,
                high = _mm512_zextsi128_si512(_mm_cvtsi32_si128(quads.level_sum[place]));
        for (uint32_t b = 0; b < quads.blocks; ++b, table += block * byte_planes) {
            const __m512i both = _mm512_load_si512(quads.level_nibbles + row / 2 + b * (block / 2));
            const __m512i first = _mm512_sub_epi8(_mm512_and_si512(both, nibble), eight),
                          second = _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi16(both, 4), nibble), eight);
            low = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(low, table_of(table), first), table_of(table + 64), second);
            mid = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(mid, table_of(table + 128), first), table_of(table + 192),
                                      second);
            high = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(high, table_of(table + 256), first), table_of(table + 320),
                                       second);
        }
        return Vec::total(number_of(low, mid, high)) * (quads.step[place] * unit) + model.bias[place];
    }
    if (quads.levels != nullptr) {
        const int8_t* levels = quads.levels + row;
        Vec::Reg odd = sum;
        for (uint32_t i = 0; i < model.factors; i += 2 * Vec::lanes) {
            const __m256i both = _mm256_load_si256(reinterpret_cast<const __m256i*>(levels + i));
            const __m512i low = _mm512_cvtepi8_epi32(_mm256_castsi256_si128(both)),
                          high = _mm512_cvtepi8_epi32(_mm256_extracti128_si256(both, 1));
            sum = Vec::fma(_mm512_cvtepi32_ps(low), Vec::load(user.profile + i), sum);
            odd = Vec::fma(_mm512_cvtepi32_ps(high), Vec::load(user.profile + i + Vec::lanes), odd);
        }
        return Vec::total(Vec::add(sum, odd)) * quads.step[place] + model.bias[place];
    }
    for (uint32_t i = model.start[place]; i < model.start[place] + model.length[place]; i += Vec::lanes)
        sum = Vec::fma(Vec::load_any(model.value + i), Vec::gather(user.profile, model.factor + i), sum);
    return Vec::total(sum) + model.bias[place];
}

// From sums of levels times units of the profile: the upper bounds of a group's scores are written, the lower ones join
// the maxima of a part.
template <bool alike>
PRUNUS_INLINE void keep_bounds(const PackedFactors& model, User& user, uint32_t first, uint32_t part, float unit,
                               __m512i sum) {
    const Quads& quads = model.quads;
    const Vec::Reg units = Vec::splat(unit), off = _mm512_mul_ps(Vec::load(quads.reach + first), units);
    const Vec::Reg step = alike ? Vec::splat(quads.step[0]) : Vec::load(quads.step + first),
                   bias = alike ? Vec::splat(0.0f) : Vec::load(model.bias + first);
    const Vec::Reg score = Vec::fma(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(step, units), bias);
    _mm512_store_ps(user.scores + first, Vec::add(score, off));
    const Vec::Reg before = Vec::load(user.maxima + part);
    _mm512_store_ps(user.maxima + part,
                    _mm512_mask_max_ps(before, user.allowed[first / group], _mm512_sub_ps(score, off), before));
}

// One user, and levels of four bits: all of them, zeros too, are multiplied. Where a third of the values are stored
// that takes fewer bytes and instructions than looking the stored ones up, as nothing is shared with other users. A
// byte has an item's level in its low half and, in its high half, that of the item 16 places on: whole bytes give the
// sum of one plus 16 times that of the other.
template <bool alike>
void bound_nibbles(const PackedFactors& model, User& user, float unit) {
    const size_t width = (static_cast<size_t>(model.factors) + 3) / 4 * 4,
                 whole = static_cast<size_t>(model.quads.blocks) * block;
    char* profile = user.tables + whole;  // behind the bytes with their offset of 128
    __m512i total = _mm512_setzero_si512();
    for (size_t i = 0; i < whole; i += 64) {
        const __m512i bytes = _mm512_xor_si512(_mm512_load_si512(user.tables + i), _mm512_set1_epi8(-128));
        _mm512_store_si512(profile + i, bytes);
        total = _mm512_dpbusd_epi32(total, _mm512_set1_epi8(8), bytes);
    }
    const __m512i offset = _mm512_set1_epi32(-_mm512_reduce_add_epi32(total)), nibble = _mm512_set1_epi8(15);
    const uint32_t most = maxima_of(user.list.k) * group;
    std::fill_n(user.maxima, most, -std::numeric_limits<float>::infinity());
    uint32_t part = 0;
    const char* levels = model.quads.nibbles;
    for (uint32_t first = 0; first < model.items; first += nibble_groups * group) {
        __m512i low[nibble_groups / 2], both[nibble_groups / 2];
        PRUNUS_UNROLL
        for (uint32_t i = 0; i < nibble_groups / 2; ++i) low[i] = both[i] = _mm512_setzero_si512();
        for (size_t at = 0; at < width; at += 4) {
            int word;
            std::memcpy(&word, profile + at, 4);
            const __m512i four = _mm512_set1_epi32(word);
            PRUNUS_UNROLL
            for (uint32_t i = 0; i < nibble_groups / 2; ++i, levels += 64) {
                __m512i bytes = _mm512_load_si512(levels);
                __asm__("" : "+v"(bytes));  // or it is loaded twice, and a cycle loads but one
                low[i] = _mm512_dpbusd_epi32(low[i], _mm512_and_si512(bytes, nibble), four);
                both[i] = _mm512_dpbusd_epi32(both[i], bytes, four);
            }
        }
        PRUNUS_UNROLL
        for (uint32_t i = 0; i < nibble_groups; ++i) {
            const uint32_t place = first + i * group;
            if (place >= model.items) return;
            const __m512i sum =
                i % 2 == 0 ? low[i / 2] : _mm512_srai_epi32(_mm512_sub_epi32(both[i / 2], low[i / 2]), 4);
            keep_bounds<alike>(model, user, place, part, unit, _mm512_add_epi32(sum, offset));
            part = part + group == most ? 0 : part + group;
        }
    }
}

// Scores of profiles in bytes, off by at most `reach` units: the lists of lower bounds are filled, and upper bounds go
// to the users' scores. A step is 128 bytes of the stream, which comes from L2 at 32 bytes a cycle: users share it.
template <uint32_t users>
void bound_scores(const PackedFactors& model, User* const* user, const float* units) {
    const Quads& quads = model.quads;
    const char* stream = quads.stream;
    const uint32_t* steps = quads.steps;
    const uint32_t most = maxima_of(user[0]->list.k) * group;
    for (uint32_t u = 0; u < users; ++u) std::fill_n(user[u]->maxima, most, -std::numeric_limits<float>::infinity());
    uint32_t part = 0;
    for (uint32_t first = 0; first < model.items; first += group) {
        __m512i sum[users];
        PRUNUS_UNROLL
        for (uint32_t u = 0; u < users; ++u) sum[u] = _mm512_load_si512(quads.level_sum + first);
        for (uint32_t b = 0; b < quads.blocks; ++b) {
            __m512i low[users], high[users];
            PRUNUS_UNROLL
            for (uint32_t u = 0; u < users; ++u) {
                low[u] = table_of(user[u]->tables + b * block);
                high[u] = table_of(user[u]->tables + b * block + 64);
            }
            for (const char* end = stream + 128 * static_cast<size_t>(*steps++); stream != end; stream += 128) {
                const __m512i at = _mm512_load_si512(stream), levels = _mm512_load_si512(stream + 64);
                PRUNUS_UNROLL
                for (uint32_t u = 0; u < users; ++u)
                    sum[u] = _mm512_dpbusd_epi32(sum[u], _mm512_permutex2var_epi8(low[u], at, high[u]), levels);
            }
        }
        PRUNUS_UNROLL
        for (uint32_t u = 0; u < users; ++u) keep_bounds<false>(model, *user[u], first, part, units[u], sum[u]);
        part = part + group == most ? 0 : part + group;
    }
}

// At most the k-th largest of some vectors of numbers, none of them NaN, and at least that less 2^-12 of it. Their
// bits, put in order, are searched from the highest bit on: that takes as long whatever the numbers are, and a
// twentieth of std::nth_element's time for a list of 20.
float largest_kth(float* numbers, uint32_t vectors, uint32_t k) {
    const __m512i sign = _mm512_set1_epi32(INT32_MIN);
    for (uint32_t i = 0; i < vectors; ++i) {
        const __m512i bits = _mm512_castps_si512(Vec::load(numbers + i * Vec::lanes));
        const __m512i flipped = _mm512_xor_si512(bits, _mm512_or_si512(_mm512_srai_epi32(bits, 31), sign));
        Vec::store_any(numbers + i * Vec::lanes, _mm512_castsi512_ps(flipped));
    }
    uint32_t found = 0;
    for (uint32_t bit = 1u << 31; bit >= 1u << 11; bit >>= 1) {
        const __m512i least = _mm512_set1_epi32(static_cast<int>(found | bit));
        uint32_t count = 0;
        for (uint32_t i = 0; i < vectors; ++i)
            count += static_cast<uint32_t>(__builtin_popcount(
                _mm512_cmpge_epu32_mask(_mm512_castps_si512(Vec::load(numbers + i * Vec::lanes)), least)));
        found = count >= k ? found | bit : found;
    }
    found = std::max(found, 0x007fffffu);  // minus infinity; what the bits left out make of it is no number
    found = found >> 31 ? found ^ 1u << 31 : ~found;
    float number;
    std::memcpy(&number, &found, 4);
    return number;
}

// Put a short list in order. A key's place is the number of those above it: no branch that is guessed wrong.
void sort(TopK& list) {
    constexpr uint32_t most = 48;
    static_assert(most <= 64, "TopK has room for that many");
    if (list.count > most) return;
    std::fill_n(list.keys + list.count, most - list.count, 0);
    uint64_t sorted[most];
    for (uint32_t i = 0; i < list.count; ++i) {
        const __m512i own = _mm512_set1_epi64(static_cast<int64_t>(list.keys[i]));
        uint32_t above = 0;
        PRUNUS_UNROLL
        for (uint32_t j = 0; j < most; j += 8)
            above += static_cast<uint32_t>(
                __builtin_popcount(_mm512_cmpgt_epu64_mask(_mm512_loadu_si512(list.keys + j), own)));
        sorted[above] = list.keys[i];
    }
    list.count = std::min(list.count, list.k);
    std::copy_n(sorted, list.count, list.keys);
}

// k items have lower bounds of at least the k-th largest maximum, so an item whose upper bound is below that is not in
// the list. The others, a few dozen more than the list is long, are scored exactly. No branch depends on a score until
// there are so few: those would be guessed wrong.
void finish(const PackedFactors& model, User& user) {
    TopK& list = user.list;
    if (list.k == 0) return;
    const Vec::Reg threshold = Vec::splat(largest_kth(user.maxima, maxima_of(list.k), list.k));
    const __m512i own = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    uint32_t count = 0;
    for (uint32_t first = 0; first < model.items; first += group) {
        const uint32_t good = Vec::at_least(Vec::load(user.scores + first), threshold) & user.allowed[first / group];
        // Not the form that stores: on Zen 4 that takes 100 cycles and more.
        const __m512i places = _mm512_add_epi32(own, _mm512_set1_epi32(static_cast<int>(first)));
        _mm512_storeu_si512(user.found + count, _mm512_maskz_compress_epi32(static_cast<__mmask16>(good), places));
        count += static_cast<uint32_t>(__builtin_popcount(good));
    }
    const Quads& quads = model.quads;
    const bool nibbles = quads.level_nibbles != nullptr;
    const char* levels = nibbles ? quads.level_nibbles : reinterpret_cast<const char*>(quads.levels);
    const size_t bytes = nibbles ? quads.stride / 2 : quads.stride;
    constexpr uint32_t ahead = 4;
    const auto fetch = [&](uint32_t i) {
        if (levels == nullptr || i >= count) return;
        for (size_t at = 0; at < bytes; at += 64)
            __builtin_prefetch(levels + static_cast<size_t>(model.item_at[user.found[i]]) * bytes + at);
    };
    for (uint32_t i = 0; i < ahead; ++i) fetch(i);
    const float unit = nibbles ? fill_tables(user.profile, model.factors, user.tables) : 0.0f;
    for (uint32_t i = 0; i < count; ++i) {
        const uint32_t place = static_cast<uint32_t>(user.found[i]);
        fetch(i + ahead);
        const float score = score_exactly(model, user, unit, place);
        if (score >= list.threshold) list.offer(score, model.item_at[place]);
    }
    sort(list);
}

void best_quads(const PackedFactors& model, User* users, uint32_t count) noexcept {
    User* ready[together];
    float units[together];
    uint32_t n = 0;
    for (uint32_t u = 0; u < count; ++u) {
        User& user = users[u];
        units[n] = fill_table(user.profile, model.factors, user.tables);
        if (units[n] != 0.0f) {
            ready[n++] = &user;
        } else {
            score_one<Vec>(model, user.profile, user.tables, user.scores);
            offer_scores<Vec>(model, user.scores, user.allowed, user.list);
        }
    }
    const auto alone = model.quads.alike ? bound_nibbles<true> : bound_nibbles<false>;
    static_assert(together == 4, "passes of four, two and one");
    if (model.quads.nibbles_for_many) {
        for (uint32_t u = 0; u < n; ++u) alone(model, *ready[u], units[u]);
    } else if (n == 4) {
        bound_scores<4>(model, ready, units);
    } else {
        if (n >= 2) bound_scores<2>(model, ready, units);
        if (n % 2 == 1 && model.quads.nibbles != nullptr)
            alone(model, *ready[n - 1], units[n - 1]);
        else if (n % 2 == 1)
            bound_scores<1>(model, ready + n - 1, units + n - 1);
    }
    for (uint32_t u = 0; u < n; ++u) finish(model, *ready[u]);
}

}  // namespace

extern const RecommendIsa isa;
const RecommendIsa isa = {"avx512vbmi", Vec::lanes, 2,          true,        score_many<Vec>,
                          score_quads,  best_quads, add_levels, add_nibbles, offer_scores<Vec>};

}  // namespace avx512vbmi
}  // namespace recommend
}  // namespace prunus
