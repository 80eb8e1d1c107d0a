"""Sentences for training the codec, similar to the Harvard sentences, with phones in many contexts.

None has the article `a` or the pronoun `i`, because a single letter is read as the letter's name.
"""

from __future__ import annotations

SENTENCES: tuple[str, ...] = tuple(
    """the old boat drifted slowly past the harbour wall
fresh bread and warm soup make every evening better
two brown foxes jumped across the frozen ditch
she poured hot water over the green tea leaves
his uncle repaired the broken clock before breakfast
most children enjoy the smell of rain in summer
the judge asked them to speak with great care
we found seven smooth stones beneath the bridge
put the yellow cup on the shelf above the stove
young birds learn to fly when the wind is calm
the shop around the corner sells cheap umbrellas
nobody noticed the thin crack in the window
they measured the length of the garden fence twice
please close the gate so the sheep stay inside
large ships carry cargo through the narrow channel
the teacher wrote five numbers on the dusty board
rough leather gloves protect your hands from thorns
each morning the baker lights the huge oven
her voice was quiet but everyone heard the song
the path through the woods was covered with leaves
bright stars shone over the empty desert
those chairs were painted blue just last week
the doctor gave him some medicine for the cough
many fish swim up this river to find food
we should plant these bulbs before the frost comes
the train from the north arrived eight minutes late
cool air flowed through the open kitchen door
that judge usually hears both sides of the story
the crew worked all night to mend the torn sail
sharp knives should be kept away from small children
some people prefer the quiet of the mountains
the bus stopped near the church on the hill
thick smoke rose from the chimney of the cottage
an honest answer is worth more than gold
the jury could not agree on the charge
they shared one large pizza and some orange juice
the puppy chewed the edge of the rug
six thin candles burned on the birthday cake
the vague message puzzled everyone in the office
pure white snow covered the roof of the barn
the river bends sharply beyond those two oaks
she usually wears her brown coat in october
the mayor opened the new library with great joy
which of these boxes holds the silver spoons
he threw the ball over the garden wall again
the thunder frightened the horses in the field
loud music kept the neighbours awake past midnight
the engine made strange noises during the long drive
you can leave your heavy luggage by the door
the king wore rings on every finger
dry sand slipped quickly through her hands
the cook added salt and pepper to the stew
tall grass grew between the rusty rails
fish and chips taste best beside the sea
the small village lies between two deep valleys
we heard the church bells ring at noon
the girl drew three triangles and one circle
those ripe peaches came from the farm next door
the view from the tower is worth the climb
my brother catches the early bus to work
the clever fox escaped through the hole in the fence
pleasure boats crossed the lake in every weather
the author wrote her third book in one month
thin ice will not bear the weight of the horse
both teams played well until the final whistle
the nurse gently washed the soldier's wound
wild geese fly south when the days grow short
the carpenter chose the oak with the straight grain
just turn the wheel slowly to the left
the puzzle took us nearly four hours to finish
that shop has the finest cheese in the county
beige curtains hung beside the long windows
the decision caused some confusion among the members
he usually measures twice before he cuts the wood
the azure water looked almost too clear
the garage was closed for the whole of january
she chose the largest cherry in the bowl
the church choir sang joyful songs for charity
judge the jam by its taste and not its jar
the badger dug its home beneath the hedge
they should have thought about the other path
both of these brothers breathe through their mouths
the thief threw three things through the window
there is nothing worth more than your health
the weather up north is rather cold this month
young yachts race beyond the yellow buoys
use your usual route to reach the university
we yearn for music from our younger years
the royal boy enjoyed the noisy toys
the oyster boiled too long in oil
choose your own voice and avoid the noise
the owl found the mouse without making any sound
our town counted one thousand cows around the mountain
the crowd shouted loudly as the clown came out
he stood and looked at the good book by the brook
she could push the wooden cart through the bush
would you put sugar in this pudding
the bull pulled the full cart uphill
the nervous bird heard thirty words
her first turn was the worst of the thirty
the girl learned german early in the term
the long song was sung by strong young singers
bring nothing but ink and string
hanging things swing along the ceiling
the king is drinking and thinking of spring
quick questions require quiet answers
the queen quickly acquired the square quilt
twelve twins twisted twigs between the swings
we went west with twenty willing women
hold the handle with half your hand
whose house is behind the huge hill
he hid the heavy hammer behind the hotel
the hungry horse had hay for breakfast
vivid violets covered the valley of vines
every voter gave five valid votes
leave the van above the seventh village
the fat thief found fifty feathers
free coffee is offered after four
lazy zebras dozed beside the zoo
his nose froze as the breeze rose
the wise lizard was always busy
she sells sea shells and fresh fish
the chef should wash the dishes and the shelf
push the ship toward the shallow shore
the genius managed the huge stage
jane judged the orange juice and ginger jam
chew each cheese sandwich as much as you wish
the teacher reached the church and watched the match
great grey goats graze on the green grass
dig the garden again before august
the big dog begged for eggs
black clouds blocked the bright blue sky
cold milk and cookies pleased the whole class
pack the black box and take it back to the clerk
the baby grabbed the rubber bubble
bob bought ten bad potatoes but paid nobody
paint the top step of the porch with purple paint
drop the paper cup and pick up the apple
ted told dad the tide had turned
the red bird hid under the wooden ladder
wait till the later date to write the letter
little kettles rattle on the metal table
mother makes more money on monday morning
some men claim the moon is made of foam
nine new nurses came in on the noon train
the moon shone down on the lonely town
lift the lid and let the little lamb live
all the tall walls will fall in april
rare red roses grow around the river road
the referee wore grey trousers and worn leather shoes
the farmer's daughter drew water every quarter of an hour
early workers earn their rewards
four more doors were broken before the storm
the car park is far from the art market
father's calm palm was hard and warm
odd cops stop often at the hot dog shop
dawn brought the small fawn to the lawn
caught salmon is often sold with strong sauce
pass the last glass past the brass lamp
that man ran back and grabbed the black bag
seven men sent their best friend to the west
bed and breakfast cost them ten pence less
it is big enough to fit six thick sticks
three green trees need deep clean streams
eat these sweet beans each week
new blue shoes suit you too
two or three few views prove it true
no one knows how slow the old road goes
those boats float close to the coast
late trains may take eight days
they may say the rain in may stays away
my bright white kite might fly high
mice like to hide inside nice wide pipes
some young monkey stuck one thumb in the mud
enough love comes from one loving mother
about seven lemons above the sofa are to be given away
the banana and the tuna belong to amanda
another camera was taken from the cabin
her collection of pictures is the largest in the nation
the invention gained national attention
treasure hunters measure their leisure in casual visions
the explosion was visible from asia
the actual number of strange objects is unusual
ask whether the clothes were washed with warm water
the tenth month brought both warmth and wealth
length and strength are not the same as depth
next spring the sixth text will be printed
glimpses of the crisp landscape helped the sculptor
the asphalt splashed as trucks crossed the street
strict instructions stretched across three screens
scratch the rough crust and spread the soft crumbs
the shrimp shrank in the shrill wind
throw the thread through the throat of the jar
pretty prints and proud prizes pleased the prince
black blankets blew across the plain
clean clothes cling to clear glass
flying flags flap in the fresh afternoon
snow slid swiftly from the small steep slope
spiders spin and snakes sleep in the sunshine
an elephant enters the elegant elevator
open any other envelope on easter evening""".splitlines()
)
