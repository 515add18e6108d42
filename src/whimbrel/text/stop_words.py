"""Words that say so little that they are not searched for.

1. The English ones are those of Lucene's English analyzer (Apache-2.0), which are few on purpose.
2. The others were written for this module, by word class: articles, prepositions and what they contract to with an
   article, pronouns, conjunctions, and the commonest forms of "to be" and "to have".
3. All are in lower case and NFC, and without the apostrophes that an analyzer takes away first.
"""

_ENGLISH = """
a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to
was will with
"""

_FRENCH = """
le la les un une des du de au aux
à dans en par pour sur sous avec sans chez vers entre
et ou ni mais donc or car que qui quoi dont où si comme
je tu il elle on nous vous ils elles me te se lui leur leurs moi toi soi eux y
mon ma mes ton ta tes son sa ses notre nos votre vos
ce cet cette ces ceci cela ça celui celle ceux celles
ne pas
suis es est sommes êtes sont étais était étions étiez étaient sera seront serait seraient été étant être fut soit
ai as a avons avez ont avais avait avions aviez avaient aura auront aurait auraient eu ayant avoir
"""

_SPANISH = """
el la los las un una unos unas lo al del
a ante con contra de desde en entre hacia hasta para por según sin sobre tras
y e o u ni pero sino que si porque como cuando donde quien quienes cual cuales
yo tú él ella ello nosotros nosotras vosotros vosotras ellos ellas me te se nos os le les mí ti sí
mi mis tu tus su sus nuestro nuestra nuestros nuestras vuestro vuestra vuestros vuestras
este esta esto estos estas ese esa eso esos esas aquel aquella aquello aquellos aquellas
no también ya
soy eres es somos sois son era eras éramos eran será serán sería serían sido siendo ser fue fueron sea sean
he has ha hemos habéis han había habías habíamos habían habrá habrán habría habrían habido habiendo haber haya hayan
"""

_PORTUGUESE = """
o a os as um uma uns umas
ao à aos às do da dos das no na nos nas pelo pela pelos pelas num numa nuns numas
de em por para com sem sob sobre entre até desde contra
e ou nem mas que se porque como quando onde quem qual quais
eu tu ele ela nós vós eles elas você vocês me te lhe lhes vos mim ti si
meu minha meus minhas teu tua teus tuas seu sua seus suas nosso nossa nossos nossas vosso vossa vossos vossas
este esta isto estes estas esse essa isso esses essas aquele aquela aquilo aqueles aquelas
deste desta deste destes destas desse dessa disso desses dessas neste nesta nestes nestas nesse nessa nesses nessas
dele dela deles delas
não também já
sou és é somos sois são era eras éramos eram será serão seria seriam sido sendo ser foi foram seja sejam
está estão estava estavam
tem têm tinha tinham terá terão teria teriam tido tendo ter há havia haver
"""

_ITALIAN = """
il lo la i gli le un uno una l
di a da in con su per tra fra
del dello della dei degli delle al allo alla ai agli alle dal dallo dalla dai dagli dalle
nel nello nella nei negli nelle sul sullo sulla sui sugli sulle col coi
dell all dall nell sull
e ed o od né ma che se perché come quando dove chi cui quale quali
io tu lui lei egli ella esso essa noi voi essi esse loro mi ti si ci vi ne me te sé
mio mia miei mie tuo tua tuoi tue suo sua suoi sue nostro nostra nostri nostre vostro vostra vostri vostre
questo questa questi queste quello quella quelli quelle quel quei quegli ciò
non anche
sono sei è siamo siete ero eri era eravamo eravate erano sarà saranno sarebbe sarebbero stato stata stati state
essendo essere fu furono sia siano
ho hai ha abbiamo avete hanno avevo avevi aveva avevamo avevate avevano avrà avranno avrebbe avrebbero avuto avendo
avere abbia abbiano
"""

_GERMAN = """
der die das den dem des ein eine einer einem einen eines kein keine keiner keinem keinen keines
an am auf aus bei beim bis durch für gegen in im ins mit nach ohne seit über um unter von vom vor zu zum zur zwischen
und oder aber denn sondern dass daß ob wenn weil als wie damit
ich du er sie es wir ihr mich dich ihn uns euch mir dir ihm ihnen sich man
mein meine meiner meinem meinen meines dein deine deiner deinem deinen deines sein seine seiner seinem seinen seines
ihre ihrer ihrem ihren ihres unser unsere unserer unserem unseren unseres euer eure eurer eurem euren eures
dieser diese dieses diesem diesen jener jene jenes jenem jenen welcher welche welches welchem welchen
was wer wem wen wo
nicht auch nur noch so
bin bist ist sind seid war warst waren wart gewesen sei wäre wären
habe hast hat haben habt hatte hatten hattet gehabt hätte hätten
werde wirst wird werden werdet wurde wurden worden würde würden
"""

_DUTCH = """
de het een der den des
aan achter bij boven door in met na naar om onder op over per sinds te tegen ten ter tot tussen uit van via voor zonder
en of maar want dat die dan als omdat toen dus noch
ik jij je u hij zij ze wij we jullie mij me jou hem haar ons hen hun zich men er
mijn jouw uw zijn onze
dit deze wat wie welke waar
niet geen ook nog al zo
ben bent is was waren geweest wees
heb hebt heeft hebben had hadden gehad
word wordt worden werd werden geworden
"""

_CHINESE = (
    "的 了 着 著 地 得 之 吗 嗎 呢 吧 啊 嘛 们 們 和 与 與 及 或 是 在 也 就 都 而 于 於 被 把"
)

STOP_WORDS = {
    language: frozenset(words.split())
    for language, words in (
        ("en", _ENGLISH),
        ("fr", _FRENCH),
        ("es", _SPANISH),
        ("pt", _PORTUGUESE),
        ("it", _ITALIAN),
        ("de", _GERMAN),
        ("nl", _DUTCH),
        ("zh", _CHINESE),
    )
}
