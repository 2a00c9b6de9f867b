// How a layer hands an output on: as a row of floats, or, where an int8 layer follows, as a row of bytes, which is a
// quarter of the stores and of the cache. The rounding is that of the layer that follows.

template <class V, class W, int documents>
struct FloatsOfFew;
template <class V, class W, int documents, bool clamped>
struct QuadsOfFew;

// Every activation but the sigmoid is a clamp. The bounds come first, so that a NaN (an overflow) stays one.
template <class V, int G>
struct FloatRows {
    static constexpr int stride = G * V::lanes;  // floats from one row to the next
    template <class W, int documents>
    using OfFew = FloatsOfFew<V, W, documents>;
    typename V::Reg lower, upper;

    PRUNUS_INLINE explicit FloatRows(const Layer& layer) : lower(V::splat(layer.lower)), upper(V::splat(layer.upper)) {}
    PRUNUS_INLINE void store(const typename V::Reg* y, float* out) const {
        PRUNUS_UNROLL
        for (int g = 0; g < G; ++g) V::store(out + g * V::lanes, V::min(upper, V::max(lower, y[g])));
    }
};

// q = clamp(rint(fma(act(y), scale, zero)), 0, 255); packing saturates. `clamped` is false where the activation changes
// no byte and no y is so large that its step leaves int32 (see Network::hand_on_bytes).
template <class V, int G, bool clamped>
struct ByteRows {
    static constexpr int stride = V::lanes;  // a row is one vector: four bytes a lane, one of each vector of documents
    template <class W, int documents>
    using OfFew = QuadsOfFew<V, W, documents, clamped>;
    typename V::Reg lower, upper, scale, zero;

    PRUNUS_INLINE explicit ByteRows(const Layer& layer)
        : lower(V::splat(layer.lower)),
          upper(V::splat(layer.upper)),
          scale(V::splat(layer.step_scale)),
          zero(V::splat(layer.step_zero)) {}
    PRUNUS_INLINE void store(const typename V::Reg* y, float* out) const {
        typename V::Int q[4];
        PRUNUS_UNROLL
        for (int g = 0; g < 4; ++g)
            q[g] = g >= G ? q[0] : V::steps(clamped ? V::min(upper, V::max(lower, y[g])) : y[g], scale, zero);
        V::Bytes::store(out, V::Bytes::row(q[0], q[1], q[2], q[3]));
    }
};
