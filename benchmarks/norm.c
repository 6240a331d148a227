/* Batch norm over rows of channels (channels-last) with the addition and ReLU that follow it: a
   pass that sums and a pass that writes, each way. levers.py compiles and calls it. */

#include <math.h>
#include <omp.h>
#include <string.h>

#define MOST 512 /* channels */
#define BLOCK 128 /* rows summed in float32 before they are added up in float64 */
#define INLINE static inline __attribute__((always_inline))

/* Calls work(from, to, c, ...) on each thread's rows, of which there are a multiple of 4; c is a
   constant for the usual widths. */
#define EACH(work, ...)                                                                  \
  _Pragma("omp parallel") {                                                              \
    const long blocks = (rows + BLOCK - 1) / BLOCK, threads = omp_get_num_threads();     \
    const long share = (blocks + threads - 1) / threads * BLOCK;                         \
    const long from = share * omp_get_thread_num();                                      \
    const long to = from + share < rows ? from + share : rows;                           \
    switch (c) {                                                                         \
      case 16: work(from, to, 16, __VA_ARGS__); break;                                   \
      case 32: work(from, to, 32, __VA_ARGS__); break;                                   \
      case 64: work(from, to, 64, __VA_ARGS__); break;                                   \
      default: work(from, to, c, __VA_ARGS__);                                           \
    }                                                                                    \
  }

/* Adds the sums of A and of A * B over all rows to total, 2 c numbers; narrow rows are taken some
   at a time, so that one addition need not wait for the one before. */
#define SUM_BLOCKS(c, total, A, B)                                                       \
  const long wide = c < 64 ? 64 / c : 1;                                                 \
  double part[2 * MOST] = {0};                                                           \
  for (long first = from; first < to; first += BLOCK) {                                  \
    const long last = first + BLOCK < to ? first + BLOCK : to;                           \
    float s[MOST], q[MOST];                                                              \
    memset(s, 0, wide * c * sizeof(float));                                              \
    memset(q, 0, wide * c * sizeof(float));                                              \
    for (long r = first; r < last; r += wide)                                            \
      for (long u = 0; u < wide; u++)                                                    \
        for (long i = 0; i < c; i++) {                                                   \
          const long k = (r + u) * c + i;                                                \
          const float a = A, b = B;                                                      \
          s[u * c + i] += a;                                                             \
          q[u * c + i] += a * b;                                                         \
        }                                                                                \
    for (long i = 0; i < wide * c; i++) part[i % c] += s[i], part[c + i % c] += q[i];    \
  }                                                                                      \
  _Pragma("omp critical") for (long i = 0; i < 2 * c; i++) total[i] += part[i];

INLINE void sum(long from, long to, const long c, const float *restrict x, double *total) {
  SUM_BLOCKS(c, total, x[k] - x[i], a) /* less the first row, which keeps the squares small */
}

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

/* y = relu(norm(x) + shortcut), where shortcut may be NULL; mean and scale are for the way back. */
void norm_forward(const float *x, const float *shortcut, const float *weight, const float *bias,
                  float *running_mean, float *running_var, float *y, float *mean, float *scale,
                  double momentum, double eps, long rows, long c) {
  double total[2 * MOST] = {0};
  float factor[MOST], offset[MOST];
  EACH(sum, x, total)
  for (long i = 0; i < c; i++) {
    const double apart = total[i] / rows, middle = apart + x[i];
    const double variance = total[c + i] / rows - apart * apart;
    running_mean[i] += momentum * (middle - running_mean[i]);
    running_var[i] += momentum * (variance * rows / (rows - 1) - running_var[i]);
    mean[i] = middle;
    scale[i] = 1 / sqrt(variance + eps);
    factor[i] = scale[i] * weight[i];
    offset[i] = bias[i] - middle * factor[i];
  }
  if (shortcut) EACH(apply, x, shortcut, factor, offset, y)
  else EACH(apply, x, NULL, factor, offset, y)
}

INLINE void sum_gradient(long from, long to, const long c, const float *restrict g,
                         const float *restrict y, const float *restrict x,
                         const float *restrict mean, double *total) {
  SUM_BLOCKS(c, total, g[k] * (float)(y[k] > 0), x[k] - mean[i])
}

INLINE void gradient(long from, long to, const long c, const float *restrict g,
                     const float *restrict y, const float *restrict x, const float *restrict a,
                     const float *restrict b, const float *restrict d, float *restrict dx,
                     float *restrict dshortcut) {
  for (long r = from; r < to; r++)
    for (long i = 0; i < c; i++) {
      const long k = r * c + i;
      const float v = g[k] * (float)(y[k] > 0);
      dx[k] = v * a[i] + x[k] * b[i] + d[i];
      if (dshortcut) dshortcut[k] = v;
    }
}

/* The gradients of x, weight, bias and, if that is not NULL, the shortcut; g is that of y. */
void norm_backward(const float *g, const float *y, const float *x, const float *weight,
                   const float *mean, const float *scale, float *dx, float *dshortcut,
                   float *dweight, float *dbias, long rows, long c) {
  double total[2 * MOST] = {0};
  float a[MOST], b[MOST], d[MOST];
  EACH(sum_gradient, g, y, x, mean, total)
  for (long i = 0; i < c; i++) {
    dbias[i] = total[i];
    dweight[i] = total[c + i] * scale[i];
    a[i] = scale[i] * weight[i];
    b[i] = -a[i] * scale[i] * dweight[i] / rows;
    d[i] = -a[i] * dbias[i] / rows - b[i] * mean[i];
  }
  if (dshortcut) EACH(gradient, g, y, x, a, b, d, dx, dshortcut)
  else EACH(gradient, g, y, x, a, b, d, dx, NULL)
}
