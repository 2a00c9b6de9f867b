// Four documents in a 128-bit register, for batches of 1 to 4: included by avx2.cpp and avx512.inl, which compile it
// with their own instructions. A 512-bit multiply-add on 4 documents would take 2 to 4 times as long on Zen 4.
struct Quad {
    static constexpr int lanes = 4;
    using Reg = __m128;
    using Bytes = Int8x16;
    using Widest = Vec;
    using Int = __m128i;
    using Mask = __m128;
    struct Split {
        Reg scale, exponent;
    };
    static constexpr int dense_height(int) { return 12; }

    static PRUNUS_INLINE Reg load(const float* p) { return _mm_load_ps(p); }
    static PRUNUS_INLINE void store(float* p, Reg x) { _mm_store_ps(p, x); }
    static PRUNUS_INLINE Reg splat(float x) { return _mm_set1_ps(x); }
    static PRUNUS_INLINE Reg weight(const Weight* weight, uint32_t& offset) {
        offset = weight->offset;
        return splat(weight->value);
    }
    static PRUNUS_INLINE Reg add(Reg a, Reg b) { return _mm_add_ps(a, b); }
    static PRUNUS_INLINE Reg sub(Reg a, Reg b) { return _mm_sub_ps(a, b); }
    static PRUNUS_INLINE Reg mul(Reg a, Reg b) { return _mm_mul_ps(a, b); }
    static PRUNUS_INLINE Reg div(Reg a, Reg b) { return _mm_div_ps(a, b); }
    static PRUNUS_INLINE Reg min(Reg a, Reg b) { return _mm_min_ps(a, b); }
    static PRUNUS_INLINE Reg max(Reg a, Reg b) { return _mm_max_ps(a, b); }
    static PRUNUS_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm_fmadd_ps(a, b, c); }
    static PRUNUS_INLINE Reg fma_once(Reg a, Reg b, Reg c) { return fma(a, b, c); }
    static PRUNUS_INLINE Mask is_nan(Reg x) { return _mm_cmp_ps(x, x, _CMP_UNORD_Q); }
    static PRUNUS_INLINE Mask equal(Reg a, Reg b) { return _mm_cmp_ps(a, b, _CMP_EQ_OQ); }
    static PRUNUS_INLINE Reg select(Mask m, Reg yes, Reg no) { return _mm_blendv_ps(no, yes, m); }
    static PRUNUS_INLINE Reg watch(Reg seen, Reg x) { return fma(x, _mm_setzero_ps(), seen); }
    static PRUNUS_INLINE Reg watch_present(Reg seen, Reg x, Mask missing) {
        return watch(seen, _mm_andnot_ps(missing, x));
    }
    static PRUNUS_INLINE bool any_nan(Reg x) { return _mm_movemask_ps(is_nan(x)) != 0; }

    static PRUNUS_INLINE Reg magnitude(Reg x, float most) { return min(_mm_andnot_ps(splat(-0.0f), x), splat(most)); }
    static PRUNUS_INLINE Reg with_sign(Reg magnitude, Reg sign) {
        return _mm_or_ps(magnitude, _mm_and_ps(splat(-0.0f), sign));
    }
    static PRUNUS_INLINE Split split(Reg u) {
        const Int bits = _mm_and_si128(_mm_sub_epi32(_mm_castps_si128(u), _mm_set1_epi32(two_thirds)),
                                       _mm_set1_epi32(exponent_mask));
        return {_mm_castsi128_ps(_mm_sub_epi32(_mm_set1_epi32(two), bits)), _mm_cvtepi32_ps(bits)};
    }
    static PRUNUS_INLINE Int round(Reg x) { return _mm_cvtps_epi32(x); }
    // Packing saturates; too large an x for int32 becomes the least one, and so does NaN.
    static PRUNUS_INLINE Int steps(Reg x, Reg scale, Reg zero) { return round(fma(x, scale, zero)); }
    static PRUNUS_INLINE Reg to_float(Int n) { return _mm_cvtepi32_ps(n); }
    static PRUNUS_INLINE Reg times_power(Reg x, Int n) {
        return _mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(x), _mm_slli_epi32(n, 23)));
    }

    // Lane `lane` in every lane.
    template <int lane>
    static PRUNUS_INLINE Reg spread(Reg x) {
        return _mm_permute_ps(x, lane * 0b01010101);
    }
    static PRUNUS_INLINE Reg load_any(const float* p) { return _mm_loadu_ps(p); }

    template <class RowsOf>
    static PRUNUS_INLINE void columns(RowsOf rows, size_t feature, Reg* out) {
        const auto row = rows.four(0, feature);
        const Reg a = _mm_loadu_ps(row(0)), b = _mm_loadu_ps(row(1)), c = _mm_loadu_ps(row(2)),
                  d = _mm_loadu_ps(row(3));
        const __m128d ab0 = _mm_castps_pd(_mm_unpacklo_ps(a, b)), ab1 = _mm_castps_pd(_mm_unpackhi_ps(a, b));
        const __m128d cd0 = _mm_castps_pd(_mm_unpacklo_ps(c, d)), cd1 = _mm_castps_pd(_mm_unpackhi_ps(c, d));
        out[0] = _mm_castpd_ps(_mm_unpacklo_pd(ab0, cd0));
        out[1] = _mm_castpd_ps(_mm_unpackhi_pd(ab0, cd0));
        out[2] = _mm_castpd_ps(_mm_unpacklo_pd(ab1, cd1));
        out[3] = _mm_castpd_ps(_mm_unpackhi_pd(ab1, cd1));
    }
    static PRUNUS_INLINE void store_first(float* p, Reg x, uint32_t count) {
        if (count >= 4) {
            _mm_storeu_ps(p, x);
            return;
        }
        alignas(16) float lane[4];
        store(lane, x);
        for (uint32_t i = 0; i < count; ++i) p[i] = lane[i];
    }
};

// Up to a vector of documents: four at a time where that takes less time than the whole vector (see Packed::few).
bool score_few(const Packed& net, const float* X, uint32_t documents, float* out, float* scratch) {
    if (documents == 1) return score_tile<Quad, 1, narrow_stream, true>(net, X, documents, 0, out, scratch);
    if (documents > net.few) return score_tile<Vec, 1, wide_stream, false>(net, X, documents, 0, out, scratch);
    bool found = false;
    for (; documents > 4;
         documents -= 4, X += 4 * static_cast<size_t>(net.features), out += 4 * static_cast<size_t>(net.outputs))
        found |= score_tile<Quad, 1, narrow_stream, false>(net, X, 4, 0, out, scratch);
    return found | score_tile<Quad, 1, narrow_stream, false>(net, X, documents, 0, out, scratch);
}
