// The call: profiles, scores, lists.
#include <algorithm>
#include <cstring>

#include "../engine/network.hpp"
#include "../engine/scratch.hpp"
#include "../engine/threads.hpp"
#include "recommender.hpp"

namespace prunus {
namespace recommend {
namespace {

constexpr size_t line = 16;  // floats
constexpr size_t most_users = 16;
constexpr uint32_t widest = 256;  // factors that a kernel reads or writes at once

size_t lines(size_t floats) {
    return (floats + line - 1) / line * line;
}

uint32_t rounded(uint32_t count, uint32_t to) {
    return (count + to - 1) / to * to;
}

}  // namespace

const RecommendIsa* recommend_isa_of(const char* name) noexcept {
#ifdef PRUNUS_X86
    __builtin_cpu_init();
    if (std::strcmp(name, "avx512vnni") == 0 && __builtin_cpu_supports("avx512vbmi")) return &avx512vbmi::isa;
    if (std::strncmp(name, "avx512", 6) == 0) return &avx512::isa;
    if (std::strcmp(name, "avx2") == 0) return &avx2::isa;
#elif defined(PRUNUS_ARM64)
    if (std::strcmp(name, "neon") == 0) return &neon::isa;
#else
    (void)name;
#endif
    return &scalar::isa;
}

// One thread's scratch, cut into parts; each begins on a cache line.
struct Recommender::Memory {
    float* profile;     // [together][factors, up to a multiple of `widest`]
    float* profiles;    // [factors][users]
    float* scores;      // [together][groups * 16]
    char* tables;       // [together][table_bytes]
    uint16_t* allowed;  // [together][groups], or [items] for many users
    uint64_t* keys;     // [most_users][TopK::capacity]
    float* maxima;
    int32_t* found;

    // Cut it, or (base null) only count: returns the floats that it takes.
    size_t cut(float* base, const PackedFactors& packed, const RecommendIsa& isa, bool item_item, uint32_t k) {
        size_t used = 0;
        const auto part = [&](auto*& pointer, size_t floats) {
            pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(base + (base == nullptr ? 0 : used));
            used += lines(floats);
        };
        const bool few = packed.quads.blocks != 0;
        const size_t factors = item_item ? 0 : rounded(packed.factors, widest), users = few ? together : 1;
        const size_t places = rounded(packed.items, group);
        part(profile, users * factors);
        part(profiles, few ? 0 : factors * isa.users);
        part(scores, users * places);
        part(tables, item_item ? 0 : users * table_bytes(packed.factors) / sizeof(float) + 1);
        part(allowed, std::max(users * places / group, places) / 2 + 1);
        part(keys, most_users * 2 * TopK::capacity(k));
        part(maxima, few ? together * maxima_of(k) * group : 0);
        part(found, few ? places + group : 0);
        return used;
    }
};

size_t Recommender::scratch_floats(uint32_t k) const noexcept {
    Memory memory;
    return memory.cut(nullptr, packed_, isa_, item_item_, k);
}

// p = sum over the history of c_i e_i.
void Recommender::encode(const Request& request, size_t user, float* profile) const noexcept {
    std::fill_n(profile, rounded(packed_.factors, widest), 0.0f);
    const int32_t *first = request.items + request.indptr[user], *last = request.items + request.indptr[user + 1];
    if (encode_dense_ != nullptr)
        return isa_.add_levels(encode_dense_, encode_stride_, first, last, encode_step_[0], profile);
    if (encode_nibbles_ != nullptr)
        return isa_.add_nibbles(encode_nibbles_, encode_stride_, first, last, encode_step_[0], profile);
    if (encode_rows_ == nullptr) {
        for (; first != last; ++first)
            for (uint32_t j = encode_start_[*first]; j < encode_start_[*first + 1]; ++j)
                profile[encode_at_[j]] += encode_value_[j];
        return;
    }
    constexpr int ahead = 4;  // rows; the next one alone arrives too late
    for (; first != last; ++first) {
        if (last - first > ahead)
            for (size_t at = encode_row_[first[ahead]]; at < encode_row_[first[ahead] + 1]; at += 64)
                __builtin_prefetch(encode_rows_ + at);
        const char* row = encode_rows_ + encode_row_[*first];
        const uint32_t length = encode_start_[*first + 1] - encode_start_[*first];
        const uint16_t* factor = reinterpret_cast<const uint16_t*>(row);
        const int8_t* level = reinterpret_cast<const int8_t*>(row + 2 * static_cast<size_t>(length));
        const float step = encode_step_[*first];
        for (uint32_t j = 0; j < length; ++j) profile[factor[j]] += step * static_cast<float>(level[j]);
    }
}

void Recommender::scores_by_place(const Request& request, size_t user, const Memory& memory) const noexcept {
    if (!item_item_) {
        encode(request, user, memory.profile);
        return isa_.one(packed_, memory.profile, memory.tables, memory.scores);
    }
    std::copy_n(packed_.bias, rounded(packed_.items, group), memory.scores);
    for (int32_t i = request.indptr[user]; i < request.indptr[user + 1]; ++i) {
        const int32_t item = request.items[i];
        for (uint32_t j = encode_start_[item]; j < encode_start_[item + 1]; ++j)
            memory.scores[encode_at_[j]] += encode_value_[j];
    }
}

// Bit i of allowed[g] says whether the item at place 16 g + i may stand in a user's list.
void Recommender::allow(const Request& request, size_t user, uint16_t* allowed) const noexcept {
    const uint32_t groups = rounded(packed_.items, group) / group;
    std::fill_n(allowed, groups, static_cast<uint16_t>(0xffff));
    if (packed_.items % group != 0) allowed[groups - 1] = static_cast<uint16_t>((1u << packed_.items % group) - 1);
    const auto forbid = [&](uint32_t place) {
        allowed[place / group] &= static_cast<uint16_t>(~(1u << place % group));
    };
    if (request.allowed != nullptr)
        for (uint32_t place = 0; place < packed_.items; ++place)
            if (request.allowed[packed_.item_at[place]] == 0) forbid(place);
    if (request.mask_seen)
        for (int32_t i = request.indptr[user]; i < request.indptr[user + 1]; ++i)
            forbid(static_cast<uint32_t>(place_of_[request.items[i]]));
}

void Recommender::recommend_one(const Request& request, size_t user, const Memory& memory, int32_t* items,
                                float* scores) const noexcept {
    allow(request, user, memory.allowed);
    scores_by_place(request, user, memory);
    TopK list;
    list.start(memory.keys, std::min(request.k, packed_.items));
    isa_.offer(packed_, memory.scores, memory.allowed, list);
    list.write(items, scores, request.k);
}

void Recommender::recommend_few(const Request& request, size_t first, size_t count, const Memory& memory,
                                int32_t* items, float* scores) const noexcept {
    const uint32_t k = std::min(request.k, packed_.items), places = rounded(packed_.items, group);
    User users[together];
    for (size_t u = 0; u < count; ++u) {
        float* profile = memory.profile + u * rounded(packed_.factors, widest);
        uint16_t* allowed = memory.allowed + u * places / group;
        encode(request, first + u, profile);
        allow(request, first + u, allowed);
        User& user = users[u];
        user = {profile, memory.tables + u * table_bytes(packed_.factors), memory.scores + u * places,
                allowed, memory.maxima + u * maxima_of(k) * group,         memory.found,
                {}};
        user.list.start(memory.keys + u * TopK::capacity(k), k);
    }
    isa_.best(packed_, users, static_cast<uint32_t>(count));
    for (size_t u = 0; u < count; ++u) users[u].list.write(items + u * request.k, scores + u * request.k, request.k);
}

void Recommender::recommend_many(const Request& request, size_t first, size_t count, const Memory& memory,
                                 int32_t* items, float* scores) const noexcept {
    const uint32_t lanes = isa_.users, k = std::min(request.k, packed_.items);
    const uint16_t everybody = static_cast<uint16_t>((1u << count) - 1);
    std::fill_n(memory.allowed, packed_.items, everybody);
    if (request.allowed != nullptr)
        for (uint32_t place = 0; place < packed_.items; ++place)
            if (request.allowed[packed_.item_at[place]] == 0) memory.allowed[place] = 0;
    TopK lists[most_users];
    for (uint32_t u = 0; u < lanes; ++u) {
        lists[u].start(memory.keys + u * TopK::capacity(k), k);
        if (u >= count) {
            for (uint32_t f = 0; f < packed_.factors; ++f) memory.profiles[static_cast<size_t>(f) * lanes + u] = 0.0f;
            continue;
        }
        encode(request, first + u, memory.profile);
        for (uint32_t f = 0; f < packed_.factors; ++f)
            memory.profiles[static_cast<size_t>(f) * lanes + u] = memory.profile[f];
        if (request.mask_seen)
            for (int32_t i = request.indptr[first + u]; i < request.indptr[first + u + 1]; ++i)
                memory.allowed[place_of_[request.items[i]]] &= static_cast<uint16_t>(~(1u << u));
    }
    isa_.many(packed_, memory.profiles, memory.allowed, lists);
    for (size_t u = 0; u < count; ++u) lists[u].write(items + u * request.k, scores + u * request.k, request.k);
}

int Recommender::recommend(const Request& request, int32_t* items, float* scores, unsigned n_threads) const noexcept {
    const size_t floats = scratch_floats(std::min(request.k, packed_.items));
    return split(request.users, isa_.users, n_threads, [&](size_t first, size_t n) noexcept {
        Memory memory;
        float* base = thread_scratch(floats);
        if (base == nullptr) return static_cast<int>(status_no_memory);
        memory.cut(base, packed_, isa_, item_item_, std::min(request.k, packed_.items));
        const size_t at_once = packed_.quads.blocks != 0 ? together : isa_.users;
        for (size_t done = 0; done < n; done += at_once) {
            const size_t count = std::min(at_once, n - done), user = first + done;
            int32_t* const out = items + user * request.k;
            float* const out_scores = scores + user * request.k;
            if (packed_.quads.blocks != 0) {
                recommend_few(request, user, count, memory, out, out_scores);
            } else if (!item_item_ && count >= isa_.fewest) {
                recommend_many(request, user, count, memory, out, out_scores);
            } else {
                for (size_t u = 0; u < count; ++u)
                    recommend_one(request, user + u, memory, out + u * request.k, out_scores + u * request.k);
            }
        }
        return static_cast<int>(status_ok);
    });
}

int Recommender::score(const Request& request, float* scores, unsigned n_threads) const noexcept {
    const size_t floats = scratch_floats(0);
    return split(request.users, 1, n_threads, [&](size_t first, size_t n) noexcept {
        Memory memory;
        float* base = thread_scratch(floats);
        if (base == nullptr) return static_cast<int>(status_no_memory);
        memory.cut(base, packed_, isa_, item_item_, 0);
        for (size_t user = first; user < first + n; ++user) {
            scores_by_place(request, user, memory);
            for (uint32_t place = 0; place < packed_.items; ++place)
                scores[user * packed_.items + static_cast<size_t>(packed_.item_at[place])] = memory.scores[place];
        }
        return static_cast<int>(status_ok);
    });
}

}  // namespace recommend
}  // namespace prunus
