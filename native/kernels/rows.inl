// How a layer hands an output on: as a row of floats, or, where an int8 layer follows, as a row of bytes, which is a
// quarter of the stores and of the cache. The rounding is that of the layer that follows.

// Every activation but the sigmoid is a clamp. The bounds come first, so that a NaN (an overflow) stays one.
template <class V, int G>
struct FloatRows {
    static constexpr int stride = G * V::lanes;  // floats from one row to the next
    typename V::Reg lower, upper;

    PRUNUS_INLINE explicit FloatRows(const Layer& layer) : lower(V::splat(layer.lower)), upper(V::splat(layer.upper)) {}
    PRUNUS_INLINE void store(const typename V::Reg* y, float* out) const {
        PRUNUS_UNROLL
        for (int g = 0; g < G; ++g) V::store(out + g * V::lanes, V::min(upper, V::max(lower, y[g])));
    }
};
