// Input stage: raw features of a tile of documents -> the first layer's inputs, feature-major.

// Where the rows of four neighbouring documents stand, at one feature.
struct EvenFour {
    const float* first;
    size_t stride;
    PRUNUS_INLINE const float* operator()(int i) const { return first + static_cast<size_t>(i) * stride; }
};
struct AnyFour {
    const float* row[4];
    PRUNUS_INLINE const float* operator()(int i) const { return row[i]; }
};

// Rows of a full vector of documents: a constant distance apart.
struct EvenRows {
    const float* first;
    size_t stride;
    PRUNUS_INLINE EvenFour four(int number, size_t feature) const {
        const float* p = first + static_cast<size_t>(4 * number) * stride + feature;
        PRUNUS_OPAQUE(p);
        return {p, stride};
    }
};

// Rows of a vector that the batch does not fill: the last document stands in for those that are not there, so that
// nothing is read past the end of X and no lane holds a value that the batch does not.
struct LastRows {
    const float* first;
    size_t stride;
    uint32_t count;
    PRUNUS_INLINE const float* row(uint32_t document, size_t feature) const {
        return first + (document < count ? document : count - 1) * stride + feature;
    }
    PRUNUS_INLINE AnyFour four(int number, size_t feature) const {
        const uint32_t d = 4 * static_cast<uint32_t>(number);
        return {{row(d, feature), row(d + 1, feature), row(d + 2, feature), row(d + 3, feature)}};
    }
};

// Load groups of four features of V::lanes documents, transposed: raw[4 * group + j] is feature j of the group.
// Only groups with a feature that some slot reads are there. Four features at a time, with no full 16x16 transpose:
// the same number of instructions an element (24 for 64), but unread features cost nothing in units of four.
template <class V, int G, class RowsOf>
PRUNUS_INLINE void load_groups(const uint32_t* group, const uint32_t* end, RowsOf rows, float* raw) {
    for (; group != end; ++group, raw += 4 * G * V::lanes) {
        typename V::Reg column[4];
        V::columns(rows, *group, column);
        for (int j = 0; j < 4; ++j) V::store(raw + j * G * V::lanes, column[j]);
    }
}

// One slot at a time: its parameters are the same for all documents.
template <class V>
struct SlotByDocuments {
    const Slot* slot;
    PRUNUS_INLINE bool operator!=(const SlotByDocuments& other) const { return slot != other.slot; }
    PRUNUS_INLINE void operator++() { ++slot; }
    PRUNUS_INLINE size_t row() const { return slot->row; }
    PRUNUS_INLINE typename V::Reg center() const { return V::splat(slot->center); }
    PRUNUS_INLINE typename V::Reg scale() const { return V::splat(slot->scale); }
    PRUNUS_INLINE typename V::Reg lower() const { return V::splat(slot->lower); }
    PRUNUS_INLINE typename V::Reg upper() const { return V::splat(slot->upper); }
    PRUNUS_INLINE typename V::Reg fill() const { return V::splat(slot->fill); }
};

// A vector of slots at a time, of one document.
template <class V>
struct SlotsInLanes {
    const float* params;
    size_t vector;
    PRUNUS_INLINE bool operator!=(const SlotsInLanes& other) const { return vector != other.vector; }
    PRUNUS_INLINE void operator++() { ++vector; }
    PRUNUS_INLINE size_t row() const { return vector; }
    PRUNUS_INLINE typename V::Reg param(size_t i) const { return V::load_any(params + (5 * vector + i) * V::lanes); }
    PRUNUS_INLINE typename V::Reg center() const { return param(0); }
    PRUNUS_INLINE typename V::Reg scale() const { return param(1); }
    PRUNUS_INLINE typename V::Reg lower() const { return param(2); }
    PRUNUS_INLINE typename V::Reg upper() const { return param(3); }
    PRUNUS_INLINE typename V::Reg fill() const { return param(4); }
};

// One run of slots of one kind. `watch` ends as NaN in a lane that met a NaN where none is allowed, or an infinity:
// x * 0 is 0 for every finite x and NaN for those two, so one fused multiply-add looks for both. Logarithms, which have
// many multiply-adds, look for the largest |x| instead: beyond 2^127, where logarithms end, a batch gets a second look.
//
// (x - center) * scale stays a subtraction and a multiplication. Folding it to x * scale - center * scale cancels when
// x is large against 1 / scale (a timestamp, say), and so does folding it into the first layer's weights. A logarithm
// is no larger than 88 and no more precise than the product with the center: there it is folded.
template <class V, int G, Kind kind, bool missing_allowed, class Slots>
PRUNUS_INLINE float* fill_slots(Slots slot, const Slots end, const float* raw, float* out, Ahead& ahead,
                                typename V::Reg* watch) {
    using R = typename V::Reg;
    constexpr int width = G * V::lanes;
    constexpr bool is_log = kind == Kind::log;
    R largest[G];
    for (int g = 0; g < G; ++g) largest[g] = V::splat(0.0f);
    for (; slot != end; ++slot, out += width) {
        const float* x_row = raw + slot.row() * width;
        const R center = slot.center(), scale = slot.scale(), lower = slot.lower(), upper = slot.upper(),
                fill = slot.fill();
        if (G > 1) ahead.ask();
        R x[G], z[G];
        PRUNUS_UNROLL
        for (int g = 0; g < G; ++g) x[g] = V::load(x_row + g * V::lanes);
        if (is_log) {
            constexpr int together = G == 4 ? 2 : G;
            PRUNUS_UNROLL
            for (int g = 0; g < G; g += together) {
                R magnitude[together];
                signed_log1p<V, together>(x + g, magnitude, z + g);
                PRUNUS_UNROLL
                for (int i = 0; i < together; ++i)
                    if (!missing_allowed) largest[g + i] = V::max(largest[g + i], magnitude[i]);
            }
            PRUNUS_UNROLL
            for (int g = 0; g < G; ++g) z[g] = V::fma(z[g], scale, center);
        }
        PRUNUS_UNROLL
        for (int g = 0; g < G; ++g) {
            const typename V::Mask missing = V::is_nan(x[g]);
            if (missing_allowed)
                watch[g] = V::watch_present(watch[g], x[g], missing);
            else if (!is_log)
                watch[g] = V::watch(watch[g], x[g]);
            if (kind == Kind::missing)
                z[g] = V::select(missing, V::splat(1.0f), V::splat(0.0f));
            else if (kind == Kind::equal)
                z[g] = V::select(V::equal(x[g], center), V::splat(1.0f), V::splat(0.0f));
            else if (kind == Kind::value)
                z[g] = V::mul(V::sub(x[g], center), scale);
            if (kind == Kind::value || is_log) z[g] = V::min(V::max(z[g], lower), upper);
            if (missing_allowed && kind != Kind::missing) z[g] = V::select(missing, fill, z[g]);
            V::store(out + g * V::lanes, z[g]);
        }
    }
    if (is_log && !missing_allowed)
        for (int g = 0; g < G; ++g) watch[g] = V::watch(watch[g], V::mul(largest[g], V::splat(2.0f)));
    return out;
}

// The slots of one chunk and kind.
template <class V, int G, Kind kind>
PRUNUS_INLINE float* fill_kind(const Chunk& chunk, const Slot* slots, uint32_t begin, const float* raw, float* out,
                               Ahead& ahead, typename V::Reg* watch) {
    const uint32_t* end = chunk.slot_end[static_cast<uint32_t>(kind)];
    using S = SlotByDocuments<V>;
    out = fill_slots<V, G, kind, false>(S{slots + begin}, S{slots + end[0]}, raw, out, ahead, watch);
    return fill_slots<V, G, kind, true>(S{slots + end[0]}, S{slots + end[1]}, raw, out, ahead, watch);
}

// Returns whether a NaN where none is allowed, or an infinity, was met.
template <class V, int G>
PRUNUS_NOINLINE bool input_stage(const Packed& net, const float* X, uint32_t documents, Ahead& ahead, float* raw,
                                 float* out) {
    size_t stride = net.features;
    alignas(64) float padded[V::lanes * G * 4];
    if (net.features < 4) {  // a group has four features: widen the rows
        for (uint32_t d = 0; d < documents; ++d)
            for (uint32_t f = 0; f < 4; ++f) padded[d * 4 + f] = f < net.features ? X[d * stride + f] : 0.0f;
        X = padded;
        stride = 4;
    }
    typename V::Reg watch[G];
    for (int g = 0; g < G; ++g) watch[g] = V::splat(0.0f);
    const uint32_t* group = net.groups;
    uint32_t slot = 0;
    for (const Chunk* chunk = net.chunks; chunk != net.chunks + net.chunk_count; ++chunk) {
        const uint32_t* end = net.groups + chunk->groups_end;
        for (int g = 0; g < G; ++g) {
            const uint32_t first = static_cast<uint32_t>(g * V::lanes);
            const float* rows = X + first * stride;
            if (documents >= first + V::lanes)
                load_groups<V, G>(group, end, EvenRows{rows, stride}, raw + first);
            else
                load_groups<V, G>(group, end, LastRows{rows, stride, documents - first}, raw + first);
        }
        group = end;
        out = fill_kind<V, G, Kind::value>(*chunk, net.slots, slot, raw, out, ahead, watch);
        out = fill_kind<V, G, Kind::log>(*chunk, net.slots, chunk->slot_end[0][1], raw, out, ahead, watch);
        out = fill_kind<V, G, Kind::missing>(*chunk, net.slots, chunk->slot_end[1][1], raw, out, ahead, watch);
        out = fill_kind<V, G, Kind::equal>(*chunk, net.slots, chunk->slot_end[2][1], raw, out, ahead, watch);
        slot = chunk->slot_end[3][1];
        if (G > 1) ahead.catch_up(slot, net.slot_count);
    }
    bool found = false;
    for (int g = 0; g < G; ++g) found |= V::any_nan(watch[g]);
    return found;
}

template <class V, Kind kind>
PRUNUS_INLINE void fill_kind_of_one(const Packed& net, uint32_t begin, const float* raw, float* out, Ahead& ahead,
                                    typename V::Reg* watch) {
    using S = SlotsInLanes<V>;
    const uint32_t* end = net.lane_end[static_cast<uint32_t>(kind)];
    const S first{net.lane_params, begin / V::lanes}, middle{net.lane_params, end[0] / V::lanes},
        last{net.lane_params, end[1] / V::lanes};
    fill_slots<V, 1, kind, false>(first, middle, raw, out + begin, ahead, watch);
    fill_slots<V, 1, kind, true>(middle, last, raw, out + end[0], ahead, watch);
}

// One document alone: slots stand in the lanes of the widest vector W, and end in all four lanes of V. The arithmetic
// is that of input_stage, lane by lane. `room`, aligned for W, holds two floats for each lane of a vector of slots.
template <class V, class W>
PRUNUS_NOINLINE bool input_stage_of_one(const Packed& net, const float* X, float* room, float* out) {
    const uint32_t lanes = net.lane_end[kind_count - 1][1];
    float *raw = room, *filled = room + lanes;
    for (uint32_t i = 0; i < lanes; ++i) raw[i] = X[net.lane_features[i]];
    typename W::Reg watch[1] = {W::splat(0.0f)};
    Ahead ahead(net, X, 0);
    fill_kind_of_one<W, Kind::value>(net, 0, raw, filled, ahead, watch);
    fill_kind_of_one<W, Kind::log>(net, net.lane_end[0][1], raw, filled, ahead, watch);
    fill_kind_of_one<W, Kind::missing>(net, net.lane_end[1][1], raw, filled, ahead, watch);
    fill_kind_of_one<W, Kind::equal>(net, net.lane_end[2][1], raw, filled, ahead, watch);
    for (uint32_t slot = 0; slot < net.slot_count; ++slot)
        V::store(out + 4 * slot, V::splat(filled[net.lane_of[slot]]));
    return W::any_nan(watch[0]);
}
