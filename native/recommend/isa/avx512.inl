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

// Add `step` times sums of levels, in 16 bits, to a profile.
template <size_t vectors>
PRUNUS_INLINE void join(const __m512i* sum, float step, float* profile) {
    const Vec::Reg by = Vec::splat(step);
    PRUNUS_UNROLL
    for (size_t i = 0; i < vectors; ++i) {
        float* out = profile + 32 * i;
        const __m512i low = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(sum[i])),
                      high = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(sum[i], 1));
        _mm512_store_ps(out, Vec::fma(_mm512_cvtepi32_ps(low), by, Vec::load(out)));
        _mm512_store_ps(out + 16, Vec::fma(_mm512_cvtepi32_ps(high), by, Vec::load(out + 16)));
    }
}

// Levels are added in 16 bits, 256 rows at most before they could overflow; then they join the profile.
void add_levels(const int8_t* levels, size_t stride, const int32_t* first, const int32_t* last, float step,
                float* profile) noexcept {
    constexpr size_t most_rows = 256, ahead = 16, widest = 256;
    for (; first != last;) {
        const int32_t* end = static_cast<size_t>(last - first) > most_rows ? first + most_rows : last;
        for (size_t begin = 0; begin < stride; begin += widest) {
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
            join<8>(sum, step, profile + begin);
        }
        first = end;
    }
}

// `lines` cache lines of each row, from `levels` on. Nibbles are added in bytes, 17 rows at most before they could
// overflow, and these in 16 bits.
template <int lines>
PRUNUS_INLINE void add_lines(const char* levels, size_t bytes, const int32_t* first, const int32_t* last, float step,
                             float* profile) {
    constexpr ptrdiff_t most_rows = 17, ahead = 16;
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i sum[4 * lines];
    PRUNUS_UNROLL
    for (int i = 0; i < 4 * lines; ++i) sum[i] = _mm512_set1_epi16(static_cast<int16_t>(-8 * (last - first)));
    for (const int32_t* item = first; item != last;) {
        __m512i few[2 * lines];
        PRUNUS_UNROLL
        for (int i = 0; i < 2 * lines; ++i) few[i] = _mm512_setzero_si512();
        for (const int32_t* stop = last - item > most_rows ? item + most_rows : last; item != stop; ++item) {
            const char* row = levels + static_cast<size_t>(*item) * bytes;
            if (last - item > ahead) {
                const char* later = levels + static_cast<size_t>(item[ahead]) * bytes;
                PRUNUS_UNROLL
                for (int i = 0; i < lines; ++i) __builtin_prefetch(later + 64 * i);
            }
            PRUNUS_UNROLL
            for (int i = 0; i < 2 * lines; i += 2) {
                const __m512i both = _mm512_load_si512(row + 32 * i);
                few[i] = _mm512_add_epi8(few[i], _mm512_and_si512(both, nibble));
                few[i + 1] = _mm512_add_epi8(few[i + 1], _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble));
            }
        }
        PRUNUS_UNROLL
        for (int i = 0; i < 2 * lines; ++i) {
            sum[2 * i] = _mm512_add_epi16(sum[2 * i], _mm512_cvtepu8_epi16(_mm512_castsi512_si256(few[i])));
            sum[2 * i + 1] =
                _mm512_add_epi16(sum[2 * i + 1], _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(few[i], 1)));
        }
    }
    join<4 * lines>(sum, step, profile);
}

// Sums of 16 bits hold 240 times 17 rows. Up to 512 factors each row is met once.
void add_nibbles(const char* levels, size_t stride, const int32_t* first, const int32_t* last, float step,
                 float* profile) noexcept {
    constexpr ptrdiff_t most_rows = 17 * 240;
    const size_t bytes = stride / 2;
    for (; first != last;) {
        const int32_t* end = last - first > most_rows ? first + most_rows : last;
        for (size_t begin = 0; begin < bytes;) {
            const size_t left = bytes - begin;
            const char* from = levels + begin;
            float* to = profile + 2 * begin;
            if (left >= 256) {
                add_lines<4>(from, bytes, first, end, step, to);
            } else if (left >= 192) {
                add_lines<3>(from, bytes, first, end, step, to);
            } else if (left >= 128) {
                add_lines<2>(from, bytes, first, end, step, to);
            } else {
                add_lines<1>(from, bytes, first, end, step, to);
            }
            begin += std::min<size_t>(left, 256);
        }
        first = end;
    }
}
