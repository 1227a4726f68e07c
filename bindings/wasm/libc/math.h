/* The mathematics of C as Rust's compiler_builtins has it for wasm32-unknown-unknown, for libopus. */
#ifndef EVENKEEL_MATH_H
#define EVENKEEL_MATH_H
#define M_PI 3.14159265358979323846
#define HUGE_VAL __builtin_huge_val()
#define isnan(x) __builtin_isnan(x)
#define isinf(x) __builtin_isinf(x)
/* One instruction each. */
static inline double fabs(double x) { return __builtin_fabs(x); }
static inline float fabsf(float x) { return __builtin_fabsf(x); }
static inline double floor(double x) { return __builtin_floor(x); }
static inline float floorf(float x) { return __builtin_floorf(x); }
static inline double ceil(double x) { return __builtin_ceil(x); }
static inline double sqrt(double x) { return __builtin_sqrt(x); }
static inline float sqrtf(float x) { return __builtin_sqrtf(x); }
static inline double rint(double x) { return __builtin_rint(x); }
static inline float rintf(float x) { return __builtin_rintf(x); }
static inline long lrint(double x) { return (long)__builtin_rint(x); }
static inline long lrintf(float x) { return (long)__builtin_rintf(x); }
double acos(double), asin(double), atan(double), atan2(double, double), cos(double), sin(double), tan(double);
double exp(double), log(double), log10(double), pow(double, double), cosh(double), sinh(double), tanh(double);
float cosf(float), sinf(float), expf(float), logf(float), log10f(float), powf(float, float);
#endif
