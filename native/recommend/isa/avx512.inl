// AVX-512 (F): sixteen users, or sixteen factors, in a vector. Included by avx512.cpp and avx512vbmi.cpp.

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
