/* Included before each file of Python: these functions got a new version in glibc 2.29, and the old one is as good to us. */
#ifndef __ASSEMBLER__
#if defined(__x86_64__)
#define OLDEST "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define OLDEST "GLIBC_2.17"
#endif
__asm__(".symver pow,pow@" OLDEST);
__asm__(".symver exp,exp@" OLDEST);
__asm__(".symver log,log@" OLDEST);
__asm__(".symver exp2,exp2@" OLDEST);
__asm__(".symver log2,log2@" OLDEST);
#endif
