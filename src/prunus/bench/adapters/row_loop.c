/* Calls a TL2cgen model for each row: no predictor, no matrix object. VALUE and RESULT come from the compiler's command line. */
#include <math.h>
union Entry { int missing; VALUE fvalue; int qvalue; };
void score(void (*predict)(union Entry*, int, RESULT*), const float* x, long rows, int columns, RESULT* out) {
  union Entry row[columns];
  for (long r = 0; r < rows; ++r, x += columns) {
    for (int c = 0; c < columns; ++c) {
      if (isnan(x[c])) row[c].missing = -1; else row[c].fvalue = x[c];
    }
    out[r] = 0;
    predict(row, 1, out + r);
  }
}
