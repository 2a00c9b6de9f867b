// Words of the kernels that are the compiler's, not the language's.
#pragma once

#define PRUNUS_INLINE inline __attribute__((always_inline))
#define PRUNUS_NOINLINE __attribute__((noinline))
#define PRUNUS_UNROLL _Pragma("GCC unroll 32")
// Forget how a pointer was computed, so that the compiler derives neighbouring addresses from it by an addressing mode
// instead of keeping one register for each.
#define PRUNUS_OPAQUE(pointer) __asm__("" : "+r"(pointer))
