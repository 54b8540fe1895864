"""Languages as packs: a folder each, with all that is said, asked and looked for in it."""

from workbench.language.packs import DEFAULT as DEFAULT
from workbench.language.packs import languages as languages
from workbench.language.packs import load_pack as load_pack
from workbench.language.packs import phrases as phrases
from workbench.language.packs import say as say
