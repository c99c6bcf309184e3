/* What the library is and was built with. */
#include "api/disasm.h"
#include "board/pc.h"
#include "plastron/plastron.h"

uint32_t plastron_api_version(void)
{
    return PLASTRON_API_VERSION;
}

const char *plastron_version(void)
{
    return PLASTRON_VERSION;
}

const char *plastron_feature(unsigned index)
{
    const char *engine = pc_engine_name(index);
    unsigned engines = 0;

    if (engine)
        return engine;
    while (pc_engine_name(engines))
        engines++;
    return index == engines && disasm_has_zydis() ? "zydis" : NULL;
}
