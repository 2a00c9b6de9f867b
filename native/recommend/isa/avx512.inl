// AVX-512 (F, BW): sixteen users, or sixteen factors, in a vector. Included by avx512.cpp and avx512vbmi.cpp.

struct Vec {
    static constexpr uint32_t lanes = 16;
    using Reg = __m512;
    static PRUNUS_INLINE Reg load(const float* p) { return _mm512_load_ps(p); }
    static PRUNUS_INLINE Reg load_any(const float* p) { return _mm512_loadu_ps(p); }
    static PRUNUS_INLINE void store_any(float* p, Reg a) { _mm512_storeu_ps(p, a); }
    static PRUNUS_INLINE Reg splat(float x) { return _mm512_set1_ps(x); }
    static PRUNUS_INLINE Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
    static PRUNUS_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
    static PRUNUS_INLINE Reg gather(const float* p, const int32_t* at) {
        return _mm512_i32gather_ps(_mm512_loadu_si512(at), p, 4);
    }
    static PRUNUS_INLINE float total(Reg a) { return _mm512_reduce_add_ps(a); }
    static PRUNUS_INLINE uint32_t at_least(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
};

// Levels of 256 factors are added in 16 bits, 256 rows at most before they could overflow; then they join the profile.
void add_levels(const int8_t* levels, size_t stride, const int32_t* first, const int32_t* last, float step,
                float* profile) noexcept {
    constexpr size_t width = 256, most_rows = 256, ahead = 16;
    for (; first != last;) {
        const int32_t* end = static_cast<size_t>(last - first) > most_rows ? first + most_rows : last;
        for (size_t begin = 0; begin < stride; begin += width) {
            __m512i sum[8];
            PRUNUS_UNROLL
            for (int i = 0; i < 8; ++i) sum[i] = _mm512_setzero_si512();
            for (const int32_t* item = first; item != end; ++item) {
                const int8_t* row = levels + static_cast<size_t>(*item) * stride + begin;
                if (static_cast<size_t>(end - item) > ahead) {
                    const int8_t* later = levels + static_cast<size_t>(item[ahead]) * stride + begin;
                    PRUNUS_UNROLL
                    for (int i = 0; i < 4; ++i) __builtin_prefetch(later + 64 * i);
                }
                PRUNUS_UNROLL
                for (int i = 0; i < 8; ++i)
                    sum[i] = _mm512_add_epi16(
                        sum[i],
                        _mm512_cvtepi8_epi16(_mm256_load_si256(reinterpret_cast<const __m256i*>(row + 32 * i))));
            }
            const Vec::Reg by = Vec::splat(step);
            for (int i = 0; i < 8; ++i) {
                float* out = profile + begin + 32 * static_cast<size_t>(i);
                const __m512i low = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(sum[i])),
                              high = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(sum[i], 1));
                _mm512_store_ps(out, Vec::fma(_mm512_cvtepi32_ps(low), by, Vec::load(out)));
                _mm512_store_ps(out + 16, Vec::fma(_mm512_cvtepi32_ps(high), by, Vec::load(out + 16)));
            }
        }
        first = end;
    }
}
