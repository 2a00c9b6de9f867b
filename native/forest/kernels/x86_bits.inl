// Blocks of 128 and 256 documents with the instructions of the file that includes this.
struct Bits128 {
    static constexpr uint32_t documents = 128, bytes = 16;
    using Reg = __m128i;
    static PRUNUS_INLINE Reg load(const char* p) { return _mm_load_si128(reinterpret_cast<const __m128i*>(p)); }
    static PRUNUS_INLINE void store(char* p, Reg x) { _mm_store_si128(reinterpret_cast<__m128i*>(p), x); }
    static PRUNUS_INLINE Reg zeros() { return _mm_setzero_si128(); }
    static PRUNUS_INLINE Reg ones() { return _mm_set1_epi32(-1); }
    static PRUNUS_INLINE Reg and_(Reg a, Reg b) { return _mm_and_si128(a, b); }
    static PRUNUS_INLINE Reg or_(Reg a, Reg b) { return _mm_or_si128(a, b); }
    static PRUNUS_INLINE Reg andnot(Reg a, Reg b) { return _mm_andnot_si128(a, b); }
#ifdef __AVX512VL__
    static PRUNUS_INLINE Reg or_and(Reg a, Reg b, Reg c) { return _mm_ternarylogic_epi64(a, b, c, 0xf8); }
    static PRUNUS_INLINE Reg blend(Reg mask, Reg a, Reg b) { return _mm_ternarylogic_epi64(mask, a, b, 0xca); }
#else
    static PRUNUS_INLINE Reg or_and(Reg a, Reg b, Reg c) { return or_(a, and_(b, c)); }
    static PRUNUS_INLINE Reg blend(Reg mask, Reg a, Reg b) { return or_(and_(mask, a), andnot(mask, b)); }
#endif
};

struct Bits256 {
    static constexpr uint32_t documents = 256, bytes = 32;
    using Reg = __m256i;
    static PRUNUS_INLINE Reg load(const char* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
    static PRUNUS_INLINE void store(char* p, Reg x) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), x); }
    static PRUNUS_INLINE Reg zeros() { return _mm256_setzero_si256(); }
    static PRUNUS_INLINE Reg ones() { return _mm256_set1_epi32(-1); }
    static PRUNUS_INLINE Reg and_(Reg a, Reg b) { return _mm256_and_si256(a, b); }
    static PRUNUS_INLINE Reg or_(Reg a, Reg b) { return _mm256_or_si256(a, b); }
    static PRUNUS_INLINE Reg andnot(Reg a, Reg b) { return _mm256_andnot_si256(a, b); }
#ifdef __AVX512VL__
    static PRUNUS_INLINE Reg or_and(Reg a, Reg b, Reg c) { return _mm256_ternarylogic_epi64(a, b, c, 0xf8); }
    static PRUNUS_INLINE Reg blend(Reg mask, Reg a, Reg b) { return _mm256_ternarylogic_epi64(mask, a, b, 0xca); }
#else
    static PRUNUS_INLINE Reg or_and(Reg a, Reg b, Reg c) { return or_(a, and_(b, c)); }
    static PRUNUS_INLINE Reg blend(Reg mask, Reg a, Reg b) { return or_(and_(mask, a), andnot(mask, b)); }
#endif
};
