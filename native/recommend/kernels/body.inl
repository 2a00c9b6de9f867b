// The kernels of every instruction set; Vec has its words. Included inside a namespace of each.

// The places in a word of bits.
template <class Use>
PRUNUS_INLINE void for_each_bit(uint32_t bits, const Use& use) {
    for (; bits != 0; bits &= bits - 1) use(static_cast<uint32_t>(__builtin_ctz(bits)));
}

// Users stand in the lanes: a stored value costs a load of its factor's row of the profiles, a broadcast and a
// multiply-add. Four sums hide the latency of the last.
template <class Vec>
void score_many(const PackedFactors& model, const float* profiles, const uint16_t* allowed, TopK* lists) noexcept {
    constexpr uint32_t lanes = Vec::lanes;
    float thresholds[lanes];
    for (uint32_t u = 0; u < lanes; ++u) thresholds[u] = lists[u].threshold;
    for (uint32_t place = 0; place < model.items; ++place) {
        const int32_t* factor = model.factor + model.start[place];
        const float* value = model.value + model.start[place];
        const uint32_t length = model.length[place];
        typename Vec::Reg sum[4] = {Vec::splat(model.bias[place]), Vec::splat(0.0f), Vec::splat(0.0f),
                                    Vec::splat(0.0f)};
        for (uint32_t i = 0; i < length; i += 4)  // rows end in zeros up to a multiple of 16
            PRUNUS_UNROLL
        for (uint32_t j = 0; j < 4; ++j)
            sum[j] = Vec::fma(Vec::splat(value[i + j]),
                              Vec::load(profiles + static_cast<size_t>(factor[i + j]) * lanes), sum[j]);
        const typename Vec::Reg score = Vec::add(Vec::add(sum[0], sum[1]), Vec::add(sum[2], sum[3]));
        const uint32_t good = Vec::at_least(score, Vec::load_any(thresholds)) & allowed[place];
        if (good == 0) continue;
        float found[lanes];
        Vec::store_any(found, score);
        for_each_bit(good, [&](uint32_t u) {
            lists[u].offer(found[u], model.item_at[place]);
            thresholds[u] = lists[u].threshold;
        });
    }
}

// One user: factors of a row are gathered from the profile.
template <class Vec>
void score_one(const PackedFactors& model, const float* profile, char*, float* scores) noexcept {
    constexpr uint32_t lanes = Vec::lanes;
    for (uint32_t place = 0; place < model.items; ++place) {
        const int32_t* factor = model.factor + model.start[place];
        const float* value = model.value + model.start[place];
        const uint32_t length = model.length[place];
        typename Vec::Reg sum = Vec::splat(0.0f);
        for (uint32_t i = 0; i < length; i += lanes)
            sum = Vec::fma(Vec::load_any(value + i), Vec::gather(profile, factor + i), sum);
        scores[place] = Vec::total(sum) + model.bias[place];
    }
}

// Scores of places beyond the last item are never allowed.
template <class Vec>
void offer_scores(const PackedFactors& model, const float* scores, const uint16_t* allowed, TopK& list) noexcept {
    constexpr uint32_t lanes = Vec::lanes;
    for (uint32_t first = 0; first < model.items; first += group) {
        if (allowed[first / group] == 0) continue;
        uint32_t good = 0;
        const typename Vec::Reg threshold = Vec::splat(list.threshold);
        PRUNUS_UNROLL
        for (uint32_t i = 0; i < group; i += lanes)
            good |= Vec::at_least(Vec::load_any(scores + first + i), threshold) << i;
        for_each_bit(good & allowed[first / group],
                     [&](uint32_t i) { list.offer(scores[first + i], model.item_at[first + i]); });
    }
}
