/* What the programs of the tests share: a check that names the line which does not hold. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache_shm.h"

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: %s\nlast error: %s\n", __FILE__, __LINE__, #condition, \
                    cshm_last_error());                                                    \
            exit(1);                                                                       \
        }                                                                                  \
    } while (0)

#endif
