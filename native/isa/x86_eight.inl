// Eight documents in a 256-bit register: the vector of avx2.cpp, and of small batches in avx512.inl, which compile it
// with their own instructions.
struct Eight {
    static constexpr int lanes = 8;
    using Reg = __m256;
    using Bytes = Int8x32;
    using Widest = Eight;
    using Int = __m256i;
    using Mask = __m256;
    struct Split {
        Reg scale, exponent;
    };
#ifdef __AVX512VL__
    // 18 or more sums, 3 inputs, 1 weight, of the 32 registers that AVX-512 has for 256 bits too.
    static constexpr int dense_height(int vectors) { return vectors >= 3 ? 6 : 12; }
#else
    // 12 sums, up to 4 inputs or weights: the 16 registers.
    static constexpr int dense_height(int vectors) { return vectors >= 3 ? 3 : 12 / vectors; }
#endif

    static PRUNUS_INLINE Reg load(const float* p) { return _mm256_load_ps(p); }
    static PRUNUS_INLINE Reg load_any(const float* p) { return _mm256_loadu_ps(p); }
    static PRUNUS_INLINE void store(float* p, Reg x) { _mm256_store_ps(p, x); }
    static PRUNUS_INLINE Reg splat(float x) { return _mm256_set1_ps(x); }
    static PRUNUS_INLINE Reg weight(const Weight* weight, uint32_t& offset) {
        offset = weight->offset;
        return splat(weight->value);
    }
    static PRUNUS_INLINE Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
    static PRUNUS_INLINE Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
    static PRUNUS_INLINE Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
    static PRUNUS_INLINE Reg div(Reg a, Reg b) { return _mm256_div_ps(a, b); }
    static PRUNUS_INLINE Reg min(Reg a, Reg b) { return _mm256_min_ps(a, b); }
    static PRUNUS_INLINE Reg max(Reg a, Reg b) { return _mm256_max_ps(a, b); }
    static PRUNUS_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
    static PRUNUS_INLINE Reg fma_once(Reg a, Reg b, Reg c) { return fma(a, b, c); }
    static PRUNUS_INLINE Mask is_nan(Reg x) { return _mm256_cmp_ps(x, x, _CMP_UNORD_Q); }
    static PRUNUS_INLINE Mask equal(Reg a, Reg b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
    static PRUNUS_INLINE Reg select(Mask m, Reg yes, Reg no) { return _mm256_blendv_ps(no, yes, m); }
    static PRUNUS_INLINE Reg watch(Reg seen, Reg x) { return fma(x, _mm256_setzero_ps(), seen); }
    static PRUNUS_INLINE Reg watch_present(Reg seen, Reg x, Mask missing) {
        return watch(seen, _mm256_andnot_ps(missing, x));
    }
    static PRUNUS_INLINE bool any_nan(Reg x) { return _mm256_movemask_ps(is_nan(x)) != 0; }

    static PRUNUS_INLINE Reg magnitude(Reg x, float most) {
        return min(_mm256_andnot_ps(splat(-0.0f), x), splat(most));
    }
    static PRUNUS_INLINE Reg with_sign(Reg magnitude, Reg sign) {
        return _mm256_or_ps(magnitude, _mm256_and_ps(splat(-0.0f), sign));
    }
    static PRUNUS_INLINE Split split(Reg u) {
        const Int bits = _mm256_and_si256(_mm256_sub_epi32(_mm256_castps_si256(u), _mm256_set1_epi32(two_thirds)),
                                          _mm256_set1_epi32(exponent_mask));
        return {_mm256_castsi256_ps(_mm256_sub_epi32(_mm256_set1_epi32(two), bits)), _mm256_cvtepi32_ps(bits)};
    }
    static PRUNUS_INLINE Int round(Reg x) { return _mm256_cvtps_epi32(x); }
    // Packing saturates; too large an x for int32 becomes the least one, and so does NaN.
    static PRUNUS_INLINE Int steps(Reg x, Reg scale, Reg zero) { return round(fma(x, scale, zero)); }
    static PRUNUS_INLINE Reg to_float(Int n) { return _mm256_cvtepi32_ps(n); }
    static PRUNUS_INLINE Reg times_power(Reg x, Int n) {
        return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32(n, 23)));
    }

    // Document 4 l + i to 128-bit lane l of register i, then two 4x4 transposes at once.
    template <class RowsOf>
    static PRUNUS_INLINE void columns(RowsOf rows, size_t feature, Reg* out) {
        const auto a = rows.four(0, feature), b = rows.four(1, feature);
        Reg part[4];
        PRUNUS_UNROLL
        for (int i = 0; i < 4; ++i)
            part[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(a(i))), _mm_loadu_ps(b(i)), 1);
        const __m256d ab0 = _mm256_castps_pd(_mm256_unpacklo_ps(part[0], part[1])),
                      ab1 = _mm256_castps_pd(_mm256_unpackhi_ps(part[0], part[1]));
        const __m256d cd0 = _mm256_castps_pd(_mm256_unpacklo_ps(part[2], part[3])),
                      cd1 = _mm256_castps_pd(_mm256_unpackhi_ps(part[2], part[3]));
        out[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab0, cd0));
        out[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab0, cd0));
        out[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(ab1, cd1));
        out[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(ab1, cd1));
    }
    static PRUNUS_INLINE void store_first(float* p, Reg x, uint32_t count) {
        if (count >= 8) {
            _mm256_storeu_ps(p, x);
            return;
        }
        alignas(32) float lane[8];
        store(lane, x);
        for (uint32_t i = 0; i < count; ++i) p[i] = lane[i];
    }
};
