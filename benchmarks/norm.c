/* Batch norm over rows of channels (channels-last) with the addition and ReLU that follow it, one pass
   each way after the pass that sums. levers.py compiles it and calls it through ctypes. */

#include <omp.h>
#include <string.h>

#define MOST 512 /* channels */
#define BLOCK 128 /* rows summed in float32 before they are added up in float64 */
#define INLINE static inline __attribute__((always_inline))

/* Calls work(from, to, c, ...) on each thread's rows, with c a constant for the usual widths. */
#define EACH(work, ...)                                                                  \
  _Pragma("omp parallel") {                                                              \
    const long share = (rows + omp_get_num_threads() - 1) / omp_get_num_threads();       \
    const long from = share * omp_get_thread_num();                                      \
    const long to = from + share < rows ? from + share : rows;                           \
    switch (c) {                                                                         \
      case 16: work(from, to, 16, __VA_ARGS__); break;                                   \
      case 32: work(from, to, 32, __VA_ARGS__); break;                                   \
      case 64: work(from, to, 64, __VA_ARGS__); break;                                   \
      default: work(from, to, c, __VA_ARGS__);                                           \
    }                                                                                    \
  }

/* Adds to total what sum(first, last, s) gives for each block: 2 c sums, in float64 at last. */
#define SUM_BLOCKS(c, total, ROW)                                                        \
  double part[2 * MOST] = {0};                                                           \
  for (long first = from; first < to; first += BLOCK) {                                  \
    const long last = first + BLOCK < to ? first + BLOCK : to;                           \
    float s[MOST], q[MOST];                                                              \
    memset(s, 0, c * sizeof(float));                                                     \
    memset(q, 0, c * sizeof(float));                                                     \
    for (long r = first; r < last; r++)                                                  \
      for (long i = 0; i < c; i++) {                                                     \
        const long k = r * c + i;                                                        \
        ROW                                                                              \
      }                                                                                  \
    for (long i = 0; i < c; i++) part[i] += s[i], part[c + i] += q[i];                   \
  }                                                                                      \
  _Pragma("omp critical") for (long i = 0; i < 2 * c; i++) total[i] += part[i];

INLINE void sum(long from, long to, const long c, const float *restrict x, double *total) {
  SUM_BLOCKS(c, total, const float a = x[k] - x[i]; s[i] += a; q[i] += a * a;)
}

/* Sums of x and of its square, both less the first row, which keeps the squares small. */
void norm_sums(const float *x, long rows, long c, double *total) { EACH(sum, x, total) }

INLINE void apply(long from, long to, const long c, const float *restrict x,
                  const float *restrict shortcut, const float *restrict factor,
                  const float *restrict offset, float *restrict y) {
  for (long r = from; r < to; r++)
    for (long i = 0; i < c; i++) {
      const long k = r * c + i;
      const float v = x[k] * factor[i] + offset[i] + (shortcut ? shortcut[k] : 0);
      y[k] = v > 0 ? v : 0;
    }
}

/* y = relu(x * factor + offset + shortcut), without the last where it is NULL. */
void norm_apply(const float *x, const float *shortcut, const float *factor, const float *offset,
                float *y, long rows, long c) {
  if (shortcut) EACH(apply, x, shortcut, factor, offset, y)
  else EACH(apply, x, NULL, factor, offset, y)
}

INLINE void sum_gradient(long from, long to, const long c, const float *restrict g,
                         const float *restrict y, const float *restrict x,
                         const float *restrict mean, double *total) {
  SUM_BLOCKS(c, total, const float a = y[k] > 0 ? g[k] : 0; s[i] += a; q[i] += a * (x[k] - mean[i]);)
}

/* Sums of the gradient where y > 0, and of that times (x - mean). */
void norm_gradient_sums(const float *g, const float *y, const float *x, const float *mean, long rows,
                        long c, double *total) {
  EACH(sum_gradient, g, y, x, mean, total)
}

INLINE void gradient(long from, long to, const long c, const float *restrict g,
                     const float *restrict y, const float *restrict x, const float *restrict a,
                     const float *restrict b, const float *restrict d, float *restrict dx,
                     float *restrict dshortcut) {
  for (long r = from; r < to; r++)
    for (long i = 0; i < c; i++) {
      const long k = r * c + i;
      const float v = y[k] > 0 ? g[k] : 0;
      dx[k] = v * a[i] + x[k] * b[i] + d[i];
      if (dshortcut) dshortcut[k] = v;
    }
}

/* dx = g a + x b + d with g as it is where y > 0 and else 0; that g to dshortcut, if not NULL. */
void norm_gradient(const float *g, const float *y, const float *x, const float *a, const float *b,
                   const float *d, float *dx, float *dshortcut, long rows, long c) {
  if (dshortcut) EACH(gradient, g, y, x, a, b, d, dx, dshortcut)
  else EACH(gradient, g, y, x, a, b, d, dx, NULL)
}
