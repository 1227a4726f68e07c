/* libopus allocates in its *_create functions alone, which nobody calls: states live in Rust's memory. */
#ifndef EVENKEEL_STDLIB_H
#define EVENKEEL_STDLIB_H
#include <stddef.h>
#define abort() __builtin_trap()
static inline int abs(int x) { return __builtin_abs(x); }
static inline void *malloc(size_t n) { (void)n; return NULL; }
static inline void *calloc(size_t n, size_t size) { (void)n; (void)size; return NULL; }
static inline void *realloc(void *p, size_t n) { (void)p; (void)n; return NULL; }
static inline void free(void *p) { (void)p; }
#endif
